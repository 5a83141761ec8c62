"""What is computed once is found by other processes, and several compute what one does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .clips import dataset_of, file_of, mixed_clips

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300
"""Far more than it takes, so that what hangs is told from what is slow."""

WITHOUT_TORCH = """
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchcodec", "torchaudio"):
            return None
        return super().find_spec(name, path, target)

sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]
from tests.corpus.in_processes import main
main(*sys.argv[1:])
"""


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A data set on disk, and beside it as a Parquet file."""
    folder = tmp_path_factory.mktemp("stored") / "clips"
    values = [{"bytes": file_of(*clip), "path": None} for clip in mixed_clips()]
    dataset = dataset_of(values)
    dataset.save_to_disk(folder)
    dataset.to_parquet(f"{folder}.parquet")
    return folder


@pytest.fixture(scope="session")
def run(dac_folder, tmp_path_factory):
    """`run(how, data set)` in another process -> what it reports."""
    cache = tmp_path_factory.mktemp("cache")

    def in_process(how, dataset, seed, command=("-m", "tests.corpus.in_processes"), **environment):
        done = subprocess.run(
            [sys.executable, *command, how, dac_folder, str(dataset)],
            cwd=ROOT,
            env={
                **os.environ,
                "HF_DATASETS_CACHE": str(cache),
                "HF_HUB_OFFLINE": "1",
                "PYTHONHASHSEED": str(seed),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return in_process


@pytest.fixture(scope="session")
def first(run, stored):
    """Without torch."""
    return run("map", stored, seed=1, command=("-c", WITHOUT_TORCH))


@pytest.fixture(scope="session")
def second(run, stored, first):
    return run("map", stored, seed=2)


@pytest.fixture(scope="session")
def spawned(run, stored, tmp_path_factory):
    """Of a copy, beside which no cache lies, with two simulated devices."""
    folder = tmp_path_factory.mktemp("copy") / "clips"
    folder.mkdir()
    for path in stored.iterdir():
        if not path.name.startswith("cache-"):
            shutil.copy(path, folder)
    flags = "--xla_force_host_platform_device_count=2"
    return run("spawn", folder, seed=3, XLA_FLAGS=flags)


@pytest.fixture(scope="session")
def forked(run, stored):
    return run("fork", stored, seed=4)


def test_audio_becomes_codes_and_back_without_torch(first, encoder):
    assert first["torch"] == []
    batch = [{"array": samples, "sampling_rate": rate} for samples, rate in mixed_clips()]
    expected = [codes.tolist() for codes in encoder(n_quantizers=2)({"audio": batch})["codes"]]
    assert first["codes"] == [expected, expected]


def test_a_second_process_finds_what_the_first_has_computed(first, second):
    assert first["loads"] == 2, "one to encode, one to decode"
    assert second["loads"] == 0
    assert second["files"] == first["files"]
    assert all(first["files"])
    assert second["codes"] == first["codes"]


def test_fingerprints_are_the_same_in_another_process_and_after_use(first, second):
    assert first["hashes"] == second["hashes"]
    fingerprints, others = first["hashes"]
    assert len(set(fingerprints)) == 1
    assert len({*fingerprints, *others}) == 3


def test_two_processes_make_the_codes_that_one_makes(first, spawned):
    assert spawned["codes"] == first["codes"][0]


def test_the_process_that_spawns_others_does_not_start_jax(spawned):
    assert spawned["is_idle"]


def test_every_rank_takes_one_device_and_a_process_alone_takes_all(spawned):
    assert spawned["devices"] == [[0], [1], [1], [0, 1]]


def test_a_model_that_was_loaded_moves_to_the_device_of_another_rank(spawned):
    assert spawned["moved"] == [[0], [1], [1], [0]]


@pytest.mark.parametrize("way", ["map", "fork"])
def test_a_process_forked_from_one_in_which_jax_runs_says_what_to_do(forked, way):
    assert "multiprocess.set_start_method('spawn')" in forked[way]
