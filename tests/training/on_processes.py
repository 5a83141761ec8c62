"""One of several processes that train together: `test_processes.py` starts them.

    python -m tests.training.on_processes KIND FOLDER STEPS PORT PROCESSES RANK

A file `FOLDER/stop` lets the last process get a SIGTERM after the step whose number it holds.
"""

import os
import signal
import sys
from pathlib import Path

import jax

from .runs import tiny_trainer

if __name__ == "__main__":
    kind, given, steps, port, processes, rank = sys.argv[1:]
    folder, is_last = Path(given), int(rank) == int(processes) - 1
    jax.distributed.initialize(f"127.0.0.1:{port}", int(processes), int(rank))

    def tell(progress):
        stop = folder / "stop"
        if is_last and stop.exists() and progress.step == int(stop.read_text()):
            os.kill(os.getpid(), signal.SIGTERM)

    progress = tiny_trainer(
        kind,
        folder,
        f"run.steps={steps}",
        "run.validate_every=2",
        validation={"all": [folder / "audio"]},
    ).run(tell)
    print(progress.step, progress.stopped_by)
