"""Which file format a suffix names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from codax.errors import FormatError
from codax.formats.dac_file import read_dac, write_dac
from codax.formats.encoded_audio import EncodedAudio


class Container(NamedTuple):
    """How one file format is read and written."""

    read: Callable[[str | os.PathLike], EncodedAudio]
    write: Callable[[EncodedAudio, str | os.PathLike], None]


CONTAINERS = {".dac": Container(read_dac, write_dac)}


def container_of(path: str | os.PathLike) -> Container:
    """The format of `path` by its suffix; raises `FormatError` naming those that exist."""
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise FormatError(
            f"{path}: the suffix is {suffix!r}, allowed: {', '.join(sorted(CONTAINERS))}"
        )
    return CONTAINERS[suffix]
