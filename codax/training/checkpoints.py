"""Checkpoints of a run, written beside its computation, by orbax."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from codax.errors import CodaxError

STATE, TOLD = "state", "told"


def holds_checkpoints(folder: Path) -> bool:
    """Whether a whole one is in the folder."""
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


class Checkpoints:
    """Those of a folder, by step; the newest are kept.

    A checkpoint appears when it is whole. Leaving the context waits for what is being written.
    """

    def __init__(self, folder: Path, kept: int):
        self._folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=kept, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def newest(self) -> int | None:
        """The step of the newest one."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, told: dict[str, Any]) -> None:
        """Begin to write a checkpoint. told: what goes with the state, as JSON has it"""
        items = {STATE: ocp.args.StandardSave(state), TOLD: ocp.args.JsonSave(told)}
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restored(
        self, step: int, like: Any, sharding: jax.sharding.Sharding
    ) -> tuple[Any, dict[str, Any]]:
        """A state with the shapes of `like`, in this sharding, and what was told with it.

        Raises `CodaxError` where it has others, or cannot be read.
        """
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), like
        )
        items = {STATE: ocp.args.StandardRestore(shapes), TOLD: ocp.args.JsonRestore()}
        try:
            restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CodaxError(
                f"{self._folder / str(step)}: is no checkpoint of this recipe: {reason}"
            ) from error
        return restored[STATE], restored[TOLD]
