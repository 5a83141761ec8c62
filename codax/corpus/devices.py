"""Which of its machine's accelerators a process takes, as those who started it tell."""

import os
import re

import jax

from codax.corpus.places import checked_place

LAUNCHERS = (
    ("LOCAL_RANK", "LOCAL_WORLD_SIZE"),  # torchrun, accelerate launch
    ("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
)

UNKNOWN_SIZE = 2**31 - 1


def local_rank() -> int | None:
    """The rank of this process among those of its machine, for `NamedModel.codec`.

    None, which stands for all devices, for a process that is alone on its machine, and where
    `jax.distributed` was initialised, which shares the devices out by itself.

    Asked are the environment variables of torchrun and `accelerate launch`, Open MPI and SLURM.
    Raises `CodaxError` where they contradict each other.
    """
    if jax.distributed.is_initialized():
        return None
    for rank_name, size_name in LAUNCHERS:
        if rank_name in os.environ:
            size = os.environ.get(size_name, UNKNOWN_SIZE)
            return _one_of_several(os.environ[rank_name], size, f"{rank_name} and {size_name}")
    # Of a step that srun started. A batch script has SLURM_LOCALID too, but runs once for all.
    if "SLURM_LOCALID" in os.environ and "SLURM_STEP_NUM_TASKS" in os.environ:
        told_by = "SLURM_LOCALID and SLURM_STEP_TASKS_PER_NODE"
        return _one_of_several(os.environ["SLURM_LOCALID"], _tasks_of_this_node(), told_by)
    return None


def _one_of_several(rank: str, size: str | int, told_by: str) -> int | None:
    place = checked_place(rank, size, told_by)
    return None if place.world_size == 1 else place.rank


def _tasks_of_this_node() -> int:
    """Of SLURM's list for all nodes, such as "2(x3),1"."""
    tasks: list[int] = []
    told = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", told):
        tasks += [int(count)] * int(times or 1)
    node = os.environ.get("SLURM_NODEID", "")
    return tasks[int(node)] if node.isdecimal() and int(node) < len(tasks) else UNKNOWN_SIZE
