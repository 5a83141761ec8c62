"""Runs `codax tokenize` again and again, each killed on its way, in processes forked from this one.

    python -m tests.corpus.killed_runs SECONDS KILLS SEED ARGUMENTS...

Everything is imported before the first fork, and JAX is not started, so that a run takes little
more than its own work. Each is killed within so many seconds, drawn at random, of the first change
that it makes to its output. Prints how many were killed; the last run is not.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import datasets  # noqa: F401

import codax.corpus.job
import codax.corpus.sources  # noqa: F401
from codax.cli.main import main


def run(arguments: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = main(arguments)
        finally:
            os._exit(status)
    return pid


def state(folder: Path) -> set:
    return {(path, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def kill_on_its_way(pid: int, folder: Path, delay: float) -> bool:
    """Whether it was killed; it may have ended before."""
    before = state(folder)
    while state(folder) == before:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    time.sleep(delay)
    if os.waitpid(pid, os.WNOHANG)[0]:
        return False
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


if __name__ == "__main__":
    seconds, kills, seed, *arguments = sys.argv[1:]
    output = Path(arguments[arguments.index("--output") + 1])
    random.seed(int(seed))
    killed = 0
    while killed < int(kills):
        if not kill_on_its_way(run(arguments), output, random.uniform(0, float(seconds))):
            break
        killed += 1
    _, status = os.waitpid(run(arguments), 0)
    print(killed, os.waitstatus_to_exitcode(status))
