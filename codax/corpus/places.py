"""Which of several processes this one is, as those who started it tell."""

import os
from typing import NamedTuple

from codax.errors import CodaxError

LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),  # torchrun, accelerate launch
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    # Of a step that srun started. A batch script has SLURM_NTASKS too, but runs once for all tasks.
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


class Place(NamedTuple):
    """rank: from 0 to before world_size"""

    rank: int
    world_size: int


def this_place() -> Place:
    """The rank of this process and the number of them, (0, 1) where there is but one.

    Asked are `jax.distributed`, where it was initialised, and the environment variables of torchrun
    and `accelerate launch`, Open MPI and SLURM. For `datasets`:
    `split_dataset_by_node(dataset, *this_place())`.

    Raises `CodaxError` where a launcher's variables contradict each other.
    """
    import jax

    if jax.distributed.is_initialized():
        return Place(jax.process_index(), jax.process_count())
    for names in LAUNCHERS:
        if all(name in os.environ for name in names):
            return checked_place(*(os.environ[name] for name in names), told_by=" and ".join(names))
    return Place(0, 1)


def checked_place(rank: str | int, world_size: str | int, told_by: str) -> Place:
    """Raises `CodaxError` unless the rank is one of so many."""
    try:
        place = Place(int(rank), int(world_size))
    except ValueError:
        place = Place(-1, 0)
    if not 0 <= place.rank < place.world_size:
        raise CodaxError(
            f"{told_by}: rank {rank} of {world_size}; expected a rank from 0 to before their number"
        )
    return place
