"""Files that are either whole or absent."""

import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Of file systems on which a file has one name.
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


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


def created_first(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet, whole. Of many processes that do so at once, one does.

    Returns whether this call did; if not, the file that was there stays as it is. What killed calls
    left behind goes, once the file is there.

    Raises `OSError` naming `path` where the folder cannot be written or the disk is full.
    """
    try:
        is_first = not path.exists() and _linked_to(path, content)
    except FileNotFoundError:
        if not path.exists():  # else another process, which was first, has tidied up
            raise
        is_first = False
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    for left in path.parent.glob(f"{_prefix(path)}*"):
        left.unlink(missing_ok=True)
    return is_first


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole, though other processes do the same at once.

    Raises `FileNotFoundError` where a `created_first` of another process came in between.
    """
    with atomic_path(path, path.with_name(_prefix(path) + secrets.token_hex(8))) as temporary:
        temporary.write_bytes(content)


def _prefix(path: Path) -> str:
    return f".{path.name}-"


def _linked_to(path: Path, content: bytes) -> bool:
    temporary = _created(path, _prefix(path))
    try:
        temporary.write_bytes(content)
        _give_usual_permissions(temporary)
        return _linked(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _linked(temporary: Path, path: Path) -> bool:
    """Give the file its name, unless another has it."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


def _created(path: Path, prefix: str = ".codax-") -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
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
