"""Several devices give what one gives, and divide the work: simulated ones, in other processes."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .on_devices import IN_ONE_PROCESS, IN_SEVERAL_PROCESSES, SUBJECTS

ROOT = Path(__file__).parents[2]
# Sums of float32 products of order one, in an order that depends on the shape: 1e-6 was seen.
TOLERANCE = 1e-5
TIMEOUT_S = 300
"""For all processes of one test; they take 30 to 130."""

pytestmark = pytest.mark.full


def run_together(commands, num_devices):
    """Run commands at once -> of each, {name: comparison} of what it got done, and its stderr."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # a hundred programs compile, and run for no time
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.modeling.on_devices", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for arguments in commands
    ]
    try:
        deadline = time.monotonic() + TIMEOUT_S
        outputs = [_finished(process, deadline) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [({one.pop("name"): one for one in lines}, errors) for lines, errors in outputs]


def _finished(process, deadline):
    try:
        output, errors = process.communicate(timeout=max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        errors += f"\nended after {TIMEOUT_S} s"
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")], errors


def names(cases, direction):
    """As on_devices.py calls its comparisons."""
    return [
        f"{family}, {case.clips} clips, {case.devices} devices: {direction} {setting}"
        for family in SUBJECTS
        for case in cases
        for setting in getattr(case, direction)
    ]


def comparison(results, name):
    found, errors = results
    assert name in found, errors[-3000:]
    assert "exception" not in found[name], found[name]["exception"]
    return found[name]


@pytest.fixture(scope="module")
def results():
    """Of a process with four devices."""
    (results,) = run_together([()], num_devices=4)
    return results


@pytest.mark.parametrize("name", names(IN_ONE_PROCESS, "encode"))
def test_codes_of_several_devices_are_those_of_one(results, name):
    found = comparison(results, name)
    assert found["codes_differ"] == 0
    assert found["difference"] <= TOLERANCE


@pytest.mark.parametrize("name", names(IN_ONE_PROCESS, "decode"))
def test_audio_of_several_devices_is_that_of_one(results, name):
    assert comparison(results, name)["difference"] <= TOLERANCE


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("family", SUBJECTS)
def test_a_batch_in_one_piece_is_divided(results, family, direction):
    found = comparison(results, f"{family}, 4 clips, 4 devices: {direction} whole")
    assert (found["parts_given"], found["parts_of_results"]) == (4, 4)


@pytest.mark.parametrize("direction", ["encode", "decode"])
@pytest.mark.parametrize("family", SUBJECTS)
def test_a_batch_that_does_not_divide_is_coded_whole_on_all(results, family, direction):
    found = comparison(results, f"{family}, 3 clips, 4 devices: {direction} whole")
    assert (found["parts_given"], found["parts_of_results"]) == (1, 1)


@pytest.mark.parametrize("setting", ["encode chunks", "decode exact"])
@pytest.mark.parametrize("family", SUBJECTS)
def test_chunks_of_a_batch_are_divided_by_clips(results, family, setting):
    found = comparison(results, f"{family}, 4 clips, 4 devices: {setting}")
    assert (found["parts_given"], found["parts_of_results"]) == (4, 4)
    assert found["calls"] == found["calls_alone"]


@pytest.mark.parametrize(
    "name",
    [
        "dac, 1 clips, 4 devices: encode chunks",
        "dac, 1 clips, 4 devices: decode exact",
        "dac, 3 clips, 4 devices: decode overlap_average",
        "dac, 4 clips, 3 devices: encode chunks",
        "dac, 4 clips, 3 devices: decode overlap_average",
        "mono, 3 clips, 4 devices: decode overlap_average",
        "mono, 4 clips, 3 devices: decode overlap_average",
        "stereo, 1 clips, 4 devices: encode chunks",
        "stereo, 1 clips, 4 devices: decode exact",
        "stereo, 4 clips, 3 devices: encode chunks",
        "stereo, 4 clips, 3 devices: decode overlap_average",
    ],
)
def test_chunks_are_divided_whatever_the_number_of_clips(results, name):
    """As many at a time as there are devices; but those that hand a state on cannot be."""
    found = comparison(results, name)
    devices = 4 if "4 devices" in name else 3
    assert (found["parts_given"], found["parts_of_results"]) == (devices, devices)
    assert found["calls"] == -(-found["calls_alone"] // devices)


@pytest.mark.parametrize("family", ["dac", "mono"])
def test_chunks_of_the_mean_are_divided_but_for_shorter_ones_at_the_end(results, family):
    found = comparison(results, f"{family}, 1 clips, 4 devices: decode mean")
    assert (found["parts_given"], found["parts_of_results"]) == (4, 4)
    assert found["calls"] < found["calls_alone"]


@pytest.mark.parametrize("family", SUBJECTS)
def test_audio_codecs_on_four_devices_give_what_they_give_on_one(results, family):
    found = comparison(results, f"{family}: AudioCodec")
    assert found["codes_differ"] == 0
    assert found["difference"] <= TOLERANCE
    assert found["parts_given"] == 4


# --- devices of several processes ----------------------------------------------------------------


@pytest.fixture(scope="module")
def results_of_two():
    """Of two processes with two devices each, all of which code together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return run_together([(0, 2, port), (1, 2, port)], num_devices=2)


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("name", names(IN_SEVERAL_PROCESSES, "encode"))
def test_codes_of_two_processes_are_those_of_one_device(results_of_two, name, process):
    found = comparison(results_of_two[process], name)
    assert found["codes_differ"] == 0
    assert found["difference"] <= TOLERANCE


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("name", names(IN_SEVERAL_PROCESSES, "decode"))
def test_audio_of_two_processes_is_that_of_one_device(results_of_two, name, process):
    found = comparison(results_of_two[process], name)
    assert found["difference"] <= TOLERANCE
    assert found["parts_given"] == 4


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("family", SUBJECTS)
def test_what_two_processes_encode_together_they_decode(results_of_two, family, process):
    found = comparison(results_of_two[process], f"{family}: there and back")
    assert found["difference"] <= TOLERANCE
