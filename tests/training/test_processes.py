"""Several processes that `jax.distributed` joins train as one does."""

import signal
import socket
import subprocess
import sys

import pytest
from transformers import FlaxAutoModel

from .runs import told_lines, with_devices, write_audio
from .test_devices import RELATIVE

STEPS = 5
STOPPED_AT = 4
"""By a signal after step 2: step 3 tells the other process, and is looked at beside step 4."""
PROCESSES = 2


def train(kind, folder, processes):
    """Train in so many processes, which share four devices -> what each of them printed last."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.training.on_processes", kind, str(folder)]
    begun = [
        subprocess.Popen(
            [*command, str(STEPS), str(port), str(processes), str(rank)],
            env=with_devices(4 // processes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        told = [process.communicate(timeout=600) for process in begun]
    finally:
        for process in begun:
            process.kill()
    assert [process.returncode for process in begun] == processes * [0], told[0][1][-3000:]
    return [out.splitlines()[-1] for out, _ in told]


@pytest.mark.full
@pytest.mark.parametrize("kind", ["dac", "encodec"])
def test_two_processes_train_as_one_stop_together_and_go_on(kind, tmp_path):
    for name in ("one", "two", "stopped"):
        write_audio(tmp_path / name / "audio")
    assert train(kind, tmp_path / "one", 1) == [f"{STEPS} None"]
    assert train(kind, tmp_path / "two", PROCESSES) == PROCESSES * [f"{STEPS} None"]
    expected, lines = told_lines(tmp_path / "one"), told_lines(tmp_path / "two")
    assert len(lines) == STEPS + 3
    for one, other in zip(expected, lines, strict=True):
        assert (one.pop("kind"), one.pop("step")) == (other.pop("kind"), other.pop("step"))
        assert other == pytest.approx(one, rel=RELATIVE)

    (tmp_path / "stopped" / "stop").write_text("2")
    stopped = f"{STOPPED_AT} {int(signal.SIGTERM)}"
    assert train(kind, tmp_path / "stopped", PROCESSES) == PROCESSES * [stopped]
    (tmp_path / "stopped" / "stop").unlink()
    assert train(kind, tmp_path / "stopped", PROCESSES) == PROCESSES * [f"{STEPS} None"]
    assert told_lines(tmp_path / "stopped") == told_lines(tmp_path / "two")
    weights = [tmp_path / name / "run" / "model" for name in ("two", "stopped")]
    first, second = ((folder / "model.safetensors").read_bytes() for folder in weights)
    assert first == second
    assert FlaxAutoModel.from_pretrained(weights[0]).config.model_type == kind
