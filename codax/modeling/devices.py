"""Several devices: parameters on all of them, batches and chunks divided among them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "batch"


def replicated(tree: Any, devices: Sequence[Any]) -> Any:
    """The same arrays on each of `devices`, which may belong to several processes."""
    return _placed(tree, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec()))


def divided(array: Any, mesh: Mesh, batch_axis: int = 0) -> jax.Array:
    """An array whose batch is a multiple of the mesh's size, a part of it on every device."""
    return _placed(array, NamedSharding(mesh, PartitionSpec(*[None] * batch_axis, AXIS)))


def mesh_of(params: Any) -> Mesh | None:
    """The devices that `replicated` has put parameters on, if they are several."""
    leaf = jax.tree.leaves(params)[0]
    sharding = leaf.sharding if is_concrete(leaf) else None
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return None
    return sharding.mesh if sharding.mesh.size > 1 else None


def divided_where_possible(
    arrays: Sequence[Any], params: Any, batch_axes: Sequence[int] | None = None
) -> Sequence[Any]:
    """`divided` among the devices of `params`, if their number divides the batch of all arrays.

    arrays: some may be None; batch_axes: of each, the axis of the batch, the first by default
    """
    mesh = mesh_of(params)
    axes = batch_axes or [0] * len(arrays)
    given = [(array, axis) for array, axis in zip(arrays, axes, strict=True) if array is not None]
    if mesh is None or any(isinstance(array, Tracer) for array, _ in given):
        return arrays
    if any(np.shape(array)[axis] % mesh.size for array, axis in given):
        return arrays
    return [
        None if array is None else divided(array, mesh, axis)
        for array, axis in zip(arrays, axes, strict=True)
    ]


def on_cpus(params: Any) -> bool:
    """Whether what takes this array, or tree of arrays, is computed on CPUs."""
    leaves = [leaf for leaf in jax.tree.leaves(params) if is_concrete(leaf)]
    if not leaves:
        return jax.default_backend() == "cpu"
    return all(device.platform == "cpu" for leaf in leaves for device in leaf.devices())


def is_concrete(array: Any) -> bool:
    """Whether it is a `jax.Array` with values, on devices."""
    return isinstance(array, jax.Array) and not isinstance(array, Tracer)


def on_host(array: Any) -> np.ndarray:
    """All of an array, also where other processes hold parts of it."""
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
    return np.asarray(array)


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    def place(array: Any) -> jax.Array:
        if sharding.is_fully_addressable:
            return jax.device_put(array, sharding)
        whole = on_host(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree)
