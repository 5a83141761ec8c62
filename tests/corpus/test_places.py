"""Which of several processes this is."""

import jax
import pytest

from codax import CodaxError
from codax.corpus import this_place

NAMES = (
    "RANK",
    "WORLD_SIZE",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_STEP_NUM_TASKS",
)
LAUNCHERS = {
    "torchrun and accelerate": ("RANK", "WORLD_SIZE"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
}


@pytest.fixture
def told(monkeypatch):
    """`told(NAME=value)`: by environment variables, and no others."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)

    def tell(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return tell


def test_without_a_launcher_there_is_one_process(told):
    assert this_place() == (0, 1)


@pytest.mark.parametrize("names", LAUNCHERS.values(), ids=LAUNCHERS)
def test_a_launcher_tells_rank_and_number(told, names):
    told(**dict(zip(names, ("3", "8"), strict=True)))
    assert this_place() == (3, 8)
    assert (this_place().rank, this_place().world_size) == (3, 8)


def test_torchrun_within_a_step_of_slurm_goes_before_it(told):
    told(RANK="9", WORLD_SIZE="16", SLURM_PROCID="1", SLURM_STEP_NUM_TASKS="2")
    assert this_place() == (9, 16)


def test_a_batch_script_of_slurm_is_one_process_for_all_its_tasks(told):
    """sbatch sets SLURM_PROCID=0 and SLURM_NTASKS where it runs the script, which is once."""
    told(SLURM_PROCID="0", SLURM_NTASKS="8")
    assert this_place() == (0, 1)


@pytest.mark.parametrize("name", [name for names in LAUNCHERS.values() for name in names])
def test_half_of_what_a_launcher_tells_is_of_something_else(told, name):
    told(**{name: "3"})
    assert this_place() == (0, 1)


@pytest.mark.parametrize(
    ("rank", "world_size"),
    [("8", "8"), ("-1", "8"), ("0", "0"), ("a", "8"), ("0", ""), ("1.0", "2")],
)
@pytest.mark.parametrize("names", LAUNCHERS.values(), ids=LAUNCHERS)
def test_a_rank_that_is_not_one_of_so_many_is_refused(told, names, rank, world_size):
    told(**dict(zip(names, (rank, world_size), strict=True)))
    with pytest.raises(CodaxError, match=f"{names[0]} and {names[1]}: rank {rank} of {world_size}"):
        this_place()


def test_jax_is_asked_first_where_it_is_distributed(told, monkeypatch):
    told(RANK="9", WORLD_SIZE="4")
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert this_place() == (1, 2)
