"""Which file format a suffix or the first bytes of a file name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from codax.errors import FormatError
from codax.formats.dac_file import parse_dac, read_dac, write_dac
from codax.formats.ecdc_file import ECDC_MAGIC, Probabilities, parse_ecdc, read_ecdc, write_ecdc
from codax.formats.encoded_audio import EncodedAudio
from codax.formats.file_content import Source, read_named
from codax.formats.packed_file import is_safetensors, parse_codax, read_codax, write_codax


class Container(NamedTuple):
    """How one file format is read, by path and from the bytes of a file, and written."""

    read: Callable[[Source], EncodedAudio]
    parse: Callable[[bytes], EncodedAudio]
    write: Callable[[EncodedAudio, str | os.PathLike], None]


CONTAINERS = {
    ".dac": Container(read_dac, parse_dac, write_dac),
    ".ecdc": Container(read_ecdc, parse_ecdc, write_ecdc),
    ".codax": Container(read_codax, parse_codax, write_codax),
}


def container_of(path: str | os.PathLike) -> Container:
    """The format of `path` by its suffix; raises `FormatError` naming those that exist."""
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise FormatError(f"{path}: the suffix is {suffix!r}, allowed: {', '.join(CONTAINERS)}")
    return CONTAINERS[suffix]


def container_of_bytes(content: bytes) -> Container:
    """The format of a file by its first bytes; `.dac` if they name none: its reader says so."""
    if content.startswith(ECDC_MAGIC):
        return CONTAINERS[".ecdc"]
    return CONTAINERS[".codax" if is_safetensors(content) else ".dac"]


def read_clip(source: Source, probabilities: Probabilities | None = None) -> EncodedAudio:
    """Read a file of any format: a path by its suffix, bytes and open files by how they begin.

    probabilities: a language model for `.ecdc` files that were written with one (see `read_ecdc`).

    Raises `FormatError` for an unknown suffix or a damaged file, `OSError` where the file cannot be
    read.
    """
    parse = clip_parser(source)
    return read_named(source, lambda content: parse(content, probabilities))


def clip_parser(source: Source) -> Callable[[bytes, Probabilities | None], EncodedAudio]:
    """What reads the bytes of `source`, as `read_clip` does; errors do not name the file."""
    by_suffix = container_of(source) if isinstance(source, str | os.PathLike) else None

    def parse(content: bytes, probabilities: Probabilities | None) -> EncodedAudio:
        container = by_suffix or container_of_bytes(content)
        if container is CONTAINERS[".ecdc"]:
            return parse_ecdc(content, probabilities)
        return container.parse(content)

    return parse
