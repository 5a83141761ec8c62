"""Files that are either whole or absent."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there on success, delete it on any failure.

    The move replaces an existing file in one step, so a reader sees the old file or the new one and
    an interrupted write (Ctrl-C, full disk) leaves nothing behind. The temporary file keeps the
    suffix of `path`, since some writers choose the format by it.

    Raises `OSError`, naming the file, where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _give_usual_permissions(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _give_usual_permissions(path: Path) -> None:
    """Undo mkstemp's private mode: what a plain `open` would have given under the user's umask."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
