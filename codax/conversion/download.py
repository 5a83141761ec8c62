"""Original weight files, downloaded once into codax's cache."""

import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO

import requests
from filelock import FileLock
from huggingface_hub import constants
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import http_backoff  # pyright: ignore[reportPrivateImportUsage]
from transformers.utils import logging

from codax.errors import CheckpointError

from .checkpoints import (
    LANGUAGE_MODELS,
    RELEASED,
    ReleasedCheckpoint,
    originals_folder,
    released_checkpoint,
)

logger = logging.get_logger(__name__)

# Pauses (seconds) after a connection that broke off; then the download is given up.
PAUSES_S = (1, 2, 4, 8)
BROKEN_OFF = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
# Compressed in transit, neither lengths nor ranges would be those of the file.
UNCOMPRESSED = {"Accept-Encoding": "identity"}


def download_original(
    name: str,
    *,
    cache_dir: str | os.PathLike | None = None,
    force: bool = False,
    local_files_only: bool = False,
) -> Path:
    """Give the original weight file of a preset, downloading it unless it is in the cache.

    An interrupted download continues where it broke off, in this call or a later one, if the server
    still has the same file (by its ETag) and sends parts of it; otherwise it starts over. Processes
    that want the same file wait for each other. Progress, timeouts and retries are
    huggingface_hub's, with its environment switches; proxies are taken from the environment.

    cache_dir: instead of `<HF_HOME>/codax/originals`
    force: download even if the file is there
    local_files_only: never download; so does HF_HUB_OFFLINE=1

    Raises `CheckpointError`, in one line, for an unknown name, a file that is not in the cache
    while downloading is ruled out, a server that cannot be reached or refuses, and a file that is
    incomplete or has another checksum than its publisher gives; `OSError` where it cannot be
    stored.
    """
    checkpoint = released_checkpoint(name)
    path = Path(cache_dir or originals_folder(), checkpoint.file_name)
    if path.exists() and not force:
        return path
    if local_files_only or constants.HF_HUB_OFFLINE:
        raise CheckpointError(
            f"{name}: HF_HUB_OFFLINE or local_files_only rules a download out; allow it, or put "
            f"{checkpoint.url} at {path} by hand"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if force or not path.exists():
            _download(checkpoint, path)
    return path


def _download(checkpoint: ReleasedCheckpoint, path: Path) -> None:
    try:
        size, etag = _size_and_etag(checkpoint.url)
        _require_size(size, checkpoint)
        partial = path.with_name(f"{path.name}.{_digest_of(etag)}.incomplete")
        with partial.open("ab" if etag else "wb") as file:
            _receive(checkpoint.url, file, size, path.name)
    except requests.RequestException as error:
        raise CheckpointError(
            f"{checkpoint.url}: {_reason(error)}; try again, or put the file at {path} by hand"
        ) from error
    _check(partial, size, checkpoint)
    os.replace(partial, path)
    for stale in path.parent.glob(f"{path.name}.*.incomplete"):
        stale.unlink()


def _size_and_etag(url: str) -> tuple[int, str]:
    """Bytes in the file, and its ETag; "" where the server gives none."""
    response = http_backoff(
        "HEAD", url, max_retries=3, headers=UNCOMPRESSED, timeout=constants.HF_HUB_ETAG_TIMEOUT
    )
    response.raise_for_status()
    size = response.headers.get("Content-Length", "")
    if not size.isdecimal():
        raise CheckpointError(f"{url}: the server does not tell the length of the file")
    return int(size), response.headers.get("ETag", "")


def _require_size(size: int, checkpoint: ReleasedCheckpoint) -> None:
    """Refuse another file before it comes: a page in its stead, or what a mirror has lost half of.

    Raises `CheckpointError` for a size that is more than a quarter off.
    """
    if checkpoint.size_mb and not 0.8 <= size / (checkpoint.size_mb * 1e6) <= 1.25:
        raise CheckpointError(
            f"{checkpoint.url}: the server announces {size} bytes; the file has about "
            f"{checkpoint.size_mb} MB"
        )


def _digest_of(etag: str) -> str:
    return hashlib.sha256(etag.encode()).hexdigest()[:16]


def _receive(url: str, file: BinaryIO, size: int, name: str) -> None:
    """Append what `file` lacks of `size` bytes, as far as it comes."""
    for pause_s in (*PAUSES_S, None):
        if file.tell() >= size:
            return
        try:
            http_get(
                url,
                file,
                resume_size=file.tell(),
                headers=dict(UNCOMPRESSED),
                displayed_filename=name,
            )
        except BROKEN_OFF as error:
            if pause_s is None:
                raise
            logger.warning(f"{url}: broken off after {file.tell()} of {size} bytes ({error!r})")
            time.sleep(pause_s)


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return f"the download broke off or never began ({type(error).__name__})"


def _check(partial: Path, size: int, checkpoint: ReleasedCheckpoint) -> None:
    """Raise `CheckpointError` for another length or checksum; only what may grow is kept."""
    received = partial.stat().st_size
    if received < size:
        raise CheckpointError(f"{checkpoint.url}: only {received} of {size} bytes came; try again")
    if received > size:
        partial.unlink()
        raise CheckpointError(f"{checkpoint.url}: {received} bytes came instead of {size}")
    if checkpoint.sha256_prefix and not (digest := _sha256(partial)).startswith(
        checkpoint.sha256_prefix
    ):
        partial.unlink()
        raise CheckpointError(
            f"{checkpoint.url}: its SHA-256 begins with {digest[:16]}, not with "
            f"{checkpoint.sha256_prefix} as published"
        )


def require_checksum(path: Path) -> None:
    """Check a file that is named like a released one against the checksum that is published.

    Raises `CheckpointError` for another content, `OSError` where it cannot be read.
    """
    for checkpoint in (*RELEASED.values(), *LANGUAGE_MODELS.values()):
        published = checkpoint.sha256_prefix
        if published and path.name == checkpoint.file_name:
            digest = _sha256(path)
            if not digest.startswith(published):
                raise CheckpointError(
                    f"{path}: its SHA-256 begins with {digest[:16]}, not with {published} as "
                    "published: the file is damaged or another one"
                )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
