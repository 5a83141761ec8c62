"""Finding and reading a model's weights, in a folder or on the Hub."""

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from codax.errors import CheckpointError
from codax.hub_files import HubError, HubFiles, names_beside, why_not

logger = logging.get_logger(__name__)

SAFETENSORS = "model.safetensors"
MSGPACK = "flax_model.msgpack"
INDEX_SUFFIX = ".index.json"
# In the order of preference: transformers prefers the msgpack file, so that one left over from an
# earlier save silently wins over the safetensors file that everybody else reads.
WEIGHT_FILES = (SAFETENSORS, SAFETENSORS + INDEX_SUFFIX, MSGPACK, MSGPACK + INDEX_SUFFIX)
PICKLED_FILE = "pytorch_model.bin"

# What Flax's reader raises for bytes that are no msgpack, or msgpack that is no tree of arrays.
MSGPACK_FAULTS = (
    msgpack.exceptions.UnpackException,
    ValueError,
    AssertionError,
    TypeError,
    KeyError,
    AttributeError,
)


@dataclass(frozen=True)
class WeightFile:
    """Opened weights.

    tensors: by torch key, each read when it is asked for; or nested as the Flax tree is.
    source: the file, for messages.
    """

    tensors: Mapping
    is_torch_layout: bool
    source: str


class SafetensorsState(Mapping):
    """The tensors of one or several safetensors files, read one at a time."""

    def __init__(self, paths: list[str]):
        self._files = {}
        for path in paths:
            file = _open_safetensors(path)
            doubled = self._files.keys() & set(file.keys())
            if doubled:
                raise CheckpointError(f"{path}: {', '.join(sorted(doubled))} in another shard too")
            self._files.update(dict.fromkeys(file.keys(), file))

    def __getitem__(self, key: str) -> np.ndarray:
        return self._files[key].get_tensor(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def find_weights(name_or_path: str, **hub_options: Any) -> WeightFile:
    """Open the weights of a folder or Hub repository: the first of `WEIGHT_FILES` that is there.

    Where the Hub does not answer, the first that is in the cache, as offline.

    `hub_options` are fields of `HubFiles` (revision, token, subfolder, ...).
    Raises `CheckpointError` for a damaged file, `OSError` where there is none or it does not come.
    """
    subfolder = hub_options.pop("subfolder", None) or ""
    place = os.path.join(name_or_path, subfolder) if subfolder else name_or_path
    if os.path.isdir(name_or_path):
        return _find_in_folder(Path(place))
    files = HubFiles(name_or_path, subfolder=subfolder, **hub_options)
    unanswered = None
    for name in WEIGHT_FILES:
        is_new = not files.holds(name)
        try:
            path = files.locate(name)
        except HubError as error:
            if files.force_download:
                raise
            unanswered, files = unanswered or error, files.offline()
            path = files.locate(name)
        if path is not None:
            # Of all files there are, only when the weights come: later loads make no request.
            tell_of_others(place, name, files.names(path) if is_new else names_beside(path))
            return _open(path, files.locate)
    if unanswered:
        raise unanswered
    if files.is_offline:
        raise HubError(why_not(name_or_path))
    raise OSError(f"{place} holds none of {', '.join(WEIGHT_FILES)}")


def _find_in_folder(folder: Path) -> WeightFile:
    path = _first_in(folder)
    if path is None:
        pickled = (folder / PICKLED_FILE).is_file()
        hint = "; convert its pytorch_model.bin with `codax convert` first" if pickled else ""
        raise OSError(f"{folder} holds none of {', '.join(WEIGHT_FILES)}{hint}")
    tell_of_others(str(folder), os.path.basename(path), names_beside(path))
    return _open(path, partial(_in_folder, folder))


def weight_paths(folder: str | os.PathLike) -> list[str]:
    """The files that `find_weights` reads in a folder, an index before its shards; [] for none.

    Raises `CheckpointError` for an index that is none, or whose shards are missing.
    """
    path = _first_in(Path(folder))
    if path is None or not path.endswith(INDEX_SUFFIX):
        return [path] if path else []
    return [path, *_shards(path, partial(_in_folder, Path(folder)))]


def _first_in(folder: Path) -> str | None:
    return next(filter(None, (_in_folder(folder, name) for name in WEIGHT_FILES)), None)


def _in_folder(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).is_file() else None


def tell_of_others(place: str, chosen: str, names: Collection[str]) -> None:
    """Warn of weight files that are not read; names: of all files in that place."""
    others = [name for name in WEIGHT_FILES if name != chosen and name in names]
    if others:
        logger.warning(f"{place}: using {chosen}, not {', '.join(others)} beside it")


def _open(path: str, locate: Callable[[str], str | None]) -> WeightFile:
    paths = _shards(path, locate) if path.endswith(INDEX_SUFFIX) else [path]
    if MSGPACK in os.path.basename(path):
        return WeightFile(_read_msgpack(paths), is_torch_layout=False, source=path)
    layouts = {_layout(shard) for shard in paths}
    if layouts == {"flax"}:
        return WeightFile(
            _flax_tree(SafetensorsState(paths), path), is_torch_layout=False, source=path
        )
    if layouts == {"pt"}:
        return WeightFile(SafetensorsState(paths), is_torch_layout=True, source=path)
    raise CheckpointError(
        f"{path}: its metadata give the format {', '.join(sorted(layouts))}; "
        "codax reads 'pt' (transformers' torch layout) and 'flax'"
    )


def _shards(index_path: str, locate: Callable[[str], str | None]) -> list[str]:
    try:
        index = json.loads(Path(index_path).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index_path}: not an index of weight files ({error!r})") from error
    if not names:
        raise CheckpointError(f"{index_path}: names no weight file")
    paths = []
    for name in names:
        if not isinstance(name, str) or os.path.basename(name) != name:
            raise CheckpointError(f"{index_path}: weight file {name!r} lies outside its folder")
        path = locate(name)
        if path is None:
            raise CheckpointError(f"{index_path}: its weight file {name} is missing")
        paths.append(path)
    return paths


def _open_safetensors(path: str):
    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error


def _layout(path: str) -> str:
    """The `format` entry of a safetensors file; torch's where a file says nothing."""
    return (_open_safetensors(path).metadata() or {}).get("format", "pt")


def _flax_tree(state: SafetensorsState, path: str) -> dict:
    try:
        return unflatten_dict(dict(state), sep=".")
    except (IndexError, TypeError, ValueError) as error:  # "a" and "a.b": a leaf and a branch
        raise CheckpointError(f"{path}: its keys do not make a tree") from error


def _read_msgpack(paths: list[str]) -> dict:
    leaves = {}
    for path in paths:
        try:
            leaves.update(flatten_dict(msgpack_restore(Path(path).read_bytes())))
        except MSGPACK_FAULTS as error:
            raise CheckpointError(f"{path}: not a whole Flax msgpack file ({error})") from error
    return unflatten_dict(leaves)
