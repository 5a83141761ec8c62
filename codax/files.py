"""Files that are either whole or absent."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, temporary_path: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there on success, delete it on any failure.

    The move replaces an existing file in one step, so a reader sees the old file or the new one and
    an interrupted write (Ctrl-C, full disk) leaves nothing behind. The temporary file keeps the
    suffix of `path`, since some writers choose the format by it.

    temporary_path: instead of a name that nothing else has; what a killed process left there is
        overwritten, so that nothing stays behind once the same was written again

    Raises `OSError` naming `path` where the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        temporary = _created(path) if temporary_path is None else temporary_path
        yield temporary
        _give_usual_permissions(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is None or not _is_ours(error.filename, path, temporary):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _created(path: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".codax-", suffix=path.suffix)
    os.close(handle)
    return Path(name)


def _is_ours(filename: object, path: Path, temporary: Path | None) -> bool:
    """Whether an error is about the temporary file, which the user has never heard of."""
    if filename is None or temporary is None:
        return True
    return str(filename) in (os.fspath(temporary), os.fspath(path))


def _give_usual_permissions(path: Path) -> None:
    """Undo mkstemp's private mode: what a plain `open` would have given under the user's umask."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(0o666 & ~umask)
