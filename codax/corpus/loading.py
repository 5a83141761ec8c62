"""The model behind a callable of a data set: named, so that it can be sent to other processes."""

import hashlib
import os
from pathlib import Path
from typing import Any

import jax
from jax._src import xla_bridge  # whether JAX has started is not told elsewhere

from codax.codec import AudioCodec
from codax.conversion import config_of, resolve_model
from codax.errors import CheckpointError

RESULTS_VERSION = 1
"""To be raised when the same audio gets other codes than before, or the same codes other audio, so
that `datasets` takes nothing from its cache that an older codax has made."""

_forked_from_jax = False


def _after_fork() -> None:
    global _forked_from_jax
    _forked_from_jax = xla_bridge.backends_are_initialized()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class NamedModel:
    """A model by name, which pickles as that name and is loaded where it is used.

    model: a preset's name, Hub id or folder; revision: of a Hub repository

    Two are pickled to the same bytes if they name the same model. The files of a folder, also of
    one that a preset was converted to, count by their content, so that what was made with other
    weights is not taken for the same; so does `RESULTS_VERSION`.
    """

    def __init__(self, model: str | os.PathLike, revision: str | None = None):
        if not isinstance(model, str | os.PathLike):
            raise TypeError(
                f"model={type(model).__name__}: expected a preset's name, a Hub id or a folder, "
                "which other processes can load by themselves"
            )
        self.model = os.fspath(model)
        self.revision = revision
        folder = _folder_of(self.model)
        self.content = digest_of(folder) if folder else None
        self._codec: AudioCodec | None = None
        self._config: Any = None
        self._rank: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        unused = {"_codec": None, "_config": None, "_rank": None}
        return {**self.__dict__, **unused, "results_version": RESULTS_VERSION}

    def config(self) -> Any:
        """The configuration, read once, for which no weights are."""
        if self._config is None:
            self._config = config_of(self.model, **self._hub_options)
        return self._config

    @property
    def _hub_options(self) -> dict[str, Any]:
        return {} if self.revision is None else {"revision": self.revision}

    def codec(self, rank: int | None = None) -> AudioCodec:
        """The model, loaded once.

        rank: of one of several processes on this machine, each of which takes one device, and
            moves to it a model that is elsewhere; None leaves it where it is, after it was loaded
            to all devices
        """
        _refuse_fork()
        codec = self._codec or AudioCodec.from_pretrained(self.model, **self._hub_options)
        if self._codec is None or rank not in (None, self._rank):
            _place(codec.model, rank)
            self._codec, self._rank = codec, rank
        return codec


def _folder_of(model: str) -> Path | None:
    """Where the model's files lie, if that is known before it is loaded."""
    try:
        resolved = resolve_model(model)
    except CheckpointError:
        return None  # loading it will tell
    return Path(resolved) if os.path.isdir(resolved) else None


def digest_of(folder: Path) -> str:
    """SHA-256 of a model folder's files: their names and contents, but for those of its card."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".msgpack"):
            digest.update(f"{path.name}\0".encode())
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _refuse_fork() -> None:
    if _forked_from_jax:
        raise RuntimeError(
            "this process was forked from one in which JAX was running, and JAX would stand still "
            "here: call multiprocess.set_start_method('spawn') before map(num_proc=...), or load "
            "no model before it"
        )


def _place(model: Any, rank: int | None) -> None:
    devices = jax.local_devices()
    if rank is not None:
        model.params = jax.device_put(model.params, devices[rank % len(devices)])
    elif len(devices) > 1:
        model.spread()
