"""Several devices: simulated ones, which have to be asked for before JAX starts."""

import json
import subprocess
import sys

import pytest

from .runs import with_devices

STEPS = 4
DEVICES = 4

# Sums over a batch are rounded in another order, and a step amplifies what the one before left.
RELATIVE = 2e-3


@pytest.mark.full
@pytest.mark.parametrize("kind", ["dac", "encodec"])
def test_four_devices_train_as_one_on_the_same_batches(kind, tmp_path):
    command = [sys.executable, "-m", "tests.training.on_devices", kind, str(tmp_path), str(STEPS)]
    finished = subprocess.run(command, env=with_devices(DEVICES), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    one, several = map(json.loads, finished.stdout.splitlines())
    assert (one["devices"], several["devices"]) == (1, DEVICES)
    assert len(one["losses"]) == len(several["losses"]) == STEPS
    for expected, line in zip(one["losses"], several["losses"], strict=True):
        numbers = {name: value for name, value in expected.items() if name not in ("step", "kind")}
        assert {name: line[name] for name in numbers} == pytest.approx(numbers, rel=RELATIVE)
