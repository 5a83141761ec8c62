"""Training on all devices of this process beside training on one: `test_devices.py` runs it.

    python -m tests.training.on_devices KIND FOLDER STEPS

prints the losses of every step as a line of JSON, on one device, and then on all.
"""

import json
import sys
from pathlib import Path

import jax

from .runs import tiny_trainer, told_lines


def losses(kind, folder, steps, devices):
    tiny_trainer(kind, folder, f"run.steps={steps}", devices=devices).run()
    return told_lines(folder)


if __name__ == "__main__":
    kind, given, steps = sys.argv[1:]
    for name, devices in (("one", jax.devices()[:1]), ("all", jax.devices())):
        lines = losses(kind, Path(given) / name, steps, devices)
        print(json.dumps({"devices": len(devices), "losses": lines}))
