"""Which accelerator a process takes, where several run on one machine."""

import jax
import pytest

from codax import CodaxError
from codax.cli.main import main
from codax.corpus.devices import LAUNCHERS, local_rank

SLURM = {"SLURM_STEP_NUM_TASKS": "7", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}
VARIABLES = (*sum(LAUNCHERS, ()), *SLURM, "SLURM_LOCALID", "SLURM_NODEID")
TOLD = {
    "nobody": ({}, None),
    "torchrun": ({"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, 3),
    "torchrun, one process on each machine": ({"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}, None),
    "a rank alone": ({"LOCAL_RANK": "0"}, 0),
    "Open MPI": ({"OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, 1),
    "srun": ({**SLURM, "SLURM_LOCALID": "1", "SLURM_NODEID": "2"}, 1),
    "srun, one task on this node": ({**SLURM, "SLURM_LOCALID": "0", "SLURM_NODEID": "3"}, None),
    "srun, tasks not told": ({"SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"}, 1),
    "a batch script": ({"SLURM_LOCALID": "0", "SLURM_NODEID": "0"}, None),
}


@pytest.fixture
def environment(monkeypatch):
    """`environment(variables)`: those that launchers set, and no others."""

    def set_to(variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(("variables", "rank"), TOLD.values(), ids=TOLD)
def test_a_process_has_the_rank_that_its_launcher_tells_unless_it_is_alone(
    environment, variables, rank
):
    environment(variables)
    assert local_rank() == rank


def test_devices_that_jax_distributed_shares_out_are_all_taken(environment, monkeypatch):
    environment({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    assert local_rank() is None


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "many")])
def test_ranks_that_cannot_be_are_refused(environment, rank, size):
    environment({"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size})
    with pytest.raises(CodaxError, match=f"LOCAL_WORLD_SIZE: rank {rank} of {size}; expected"):
        local_rank()


def test_codax_tokenize_takes_the_device_of_its_rank(environment, monkeypatch, tmp_path, capsys):
    asked = []

    def codec(_, rank=None):
        asked.append(rank)
        raise CodaxError("no model in this test")

    monkeypatch.setattr("codax.corpus.loading.NamedModel.codec", codec)
    environment({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    (tmp_path / "clip.wav").touch()
    assert main(["tokenize", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "no model in this test" in capsys.readouterr().err
    assert asked == [1]
