"""Compiled programs are kept on disk, so that a command need not compile what another one did.

In `$XDG_CACHE_HOME/codax/programs` (`~/.cache/codax/programs`), a gigabyte at most for each kind of
CPU: what was used the longest ago goes. JAX's own variables come first: `JAX_COMPILATION_CACHE_DIR`
names another folder, `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
"""

import hashlib
import os
import platform
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path

MOST_BYTES = 2**30
LEAST_S = 0.1
"""Of compiling, below which a program is not worth a file."""

WRITING_S = 60.0
"""After which what is written only half is not being written any more."""

CPU_FACTS = Path("/proc/cpuinfo")


def keep_programs() -> None:
    """From now on, here and in processes that are started from here."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = _own_folder()
    if folder is None:
        return
    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": LEAST_S,
    }
    for name, value in settings.items():
        is_told = name.upper() in os.environ
        os.environ.setdefault(name.upper(), str(value))
        if "jax" in sys.modules and not is_told:  # which has read its variables
            sys.modules["jax"].config.update(name, value)
    _remove_halves(folder)
    # What cannot be read is compiled; what cannot be written is not kept.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def _own_folder() -> Path | None:
    """Of this user and this kind of CPU: programs are machine code. None where it cannot be had."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(root):  # which the XDG base directory specification has ignored
        root = "~/.cache"
    try:
        folder = Path(root).expanduser() / "codax" / "programs" / _cpu_name()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # nowhere to write, or no home
        return None
    is_own = os.name != "posix" or (status.st_uid == os.getuid() and not status.st_mode & 0o022)
    return folder if is_own and os.access(folder, os.W_OK) else None


def _remove_halves(folder: Path) -> None:
    """What a command left that was killed while it wrote: no program is written over such a one.

    JAX writes a program, and then when it was used.
    """
    for program in folder.glob("*-cache"):
        used = program.with_name(program.name.removesuffix("-cache") + "-atime")
        with suppress(OSError):
            if not used.exists() and time.time() - program.stat().st_mtime > WRITING_S:
                program.unlink()


def _cpu_name() -> str:
    """The architecture, and a digest of the instructions that the CPU has, where they are told."""
    flags = b""
    if CPU_FACTS.is_file():
        lines = CPU_FACTS.read_bytes().splitlines()
        flags = next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
    return f"{platform.machine()}-{hashlib.sha256(flags).hexdigest()[:12]}"
