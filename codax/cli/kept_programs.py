"""Compiled programs are kept on disk, so that a command need not compile what another one did.

In `$XDG_CACHE_HOME/codax/programs` (`~/.cache/codax/programs`), a gigabyte at most: what was used
the longest ago goes. JAX's own variables come first: `JAX_COMPILATION_CACHE_DIR` names another
folder, `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
"""

import hashlib
import os
import platform
import warnings
from pathlib import Path

MOST_BYTES = 2**30
LEAST_S = 0.1
"""Of compiling, below which a program is not worth a file."""

CPU_FACTS = Path("/proc/cpuinfo")


def keep_programs() -> None:
    """From now on, here and in processes that are started from here."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = _own_folder()
    if folder is None:
        return
    import jax

    settings = {
        "jax_compilation_cache_dir": str(folder),
        "jax_compilation_cache_max_size": MOST_BYTES,
        "jax_persistent_cache_min_compile_time_secs": LEAST_S,
    }
    for name, value in settings.items():
        os.environ[name.upper()] = str(value)
        jax.config.update(name, value)
    # What cannot be read is compiled; what cannot be written is not kept.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")


def _own_folder() -> Path | None:
    """Of this user and this kind of CPU: programs are machine code. None where it cannot be had."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(root).expanduser() / "codax" / "programs" / _cpu_name()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
    except (OSError, RuntimeError):  # nowhere to write, or no home
        return None
    is_own = not hasattr(os, "getuid") or owner == os.getuid()
    return folder if is_own and os.access(folder, os.W_OK) else None


def _cpu_name() -> str:
    """The architecture, and a digest of the instructions that the CPU has, where they are told."""
    flags = b""
    if CPU_FACTS.is_file():
        lines = CPU_FACTS.read_bytes().splitlines()
        flags = next((line for line in lines if line.startswith((b"flags", b"Features"))), b"")
    return f"{platform.machine()}-{hashlib.sha256(flags).hexdigest()[:12]}"
