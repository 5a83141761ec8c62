"""Files as bytes: read whole and bounded, written whole or not at all."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from codax.errors import FormatError
from codax.files import atomic_path

Source = str | os.PathLike | bytes | BinaryIO

MAX_FILE_BYTES = 1 << 30
"""A week of 44.1 kHz mono at 8 kbps in the widest format, `.dac`."""

_READ_BYTES = 1 << 20

_Parsed = TypeVar("_Parsed")


def read_named(source: Source, parse: Callable[[bytes], _Parsed]) -> _Parsed:
    """`parse` all bytes of a path, of an open binary file, or the bytes themselves.

    Raises `FormatError`, beginning with the file's name, for more than 1 GiB and where `parse`
    does; `OSError` for a file that cannot be opened.
    """
    try:
        return parse(content_of(source))
    except FormatError as error:
        raise type(error)(f"{_name(source)}: {error}") from error


def check_suffix(path: str | os.PathLike, suffix: str) -> None:
    """Raise `FormatError` unless `path` ends in `suffix`."""
    if Path(path).suffix.lower() != suffix:
        raise FormatError(f"{path}: the suffix is {Path(path).suffix!r}, allowed: {suffix}")


def write_whole(path: str | os.PathLike, content: bytes) -> None:
    """Write a file that is whole or absent; raises `OSError` naming `path` where it cannot be."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _name(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return str(getattr(source, "name", f"<{type(source).__name__}>"))


def content_of(source: Source) -> bytes:
    """All bytes of the file, read only once their number is known to be allowed."""
    if isinstance(source, bytes):
        _check_size(len(source))
        return source
    if not isinstance(source, str | os.PathLike):
        return _content_of_open_file(source)
    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError("is not a regular file, allowed: a file, or the bytes of one")
    _check_size(status.st_size)
    return Path(source).read_bytes()


def _content_of_open_file(file: BinaryIO) -> bytes:
    """It may be a pipe, which has no size and no end."""
    content = bytearray()
    while block := file.read(_READ_BYTES):
        content += block
        _check_size(len(content))
    return bytes(content)


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_FILE_BYTES:
        raise FormatError(f"has {num_bytes} bytes or more, allowed: up to {MAX_FILE_BYTES}")
