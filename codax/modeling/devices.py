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


def divided(tree: Any, mesh: Mesh) -> Any:
    """Arrays [B, ...] with B a multiple of the mesh's size, a part of each on every device."""
    return _placed(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def mesh_of(params: Any) -> Mesh | None:
    """The devices that `replicated` has put parameters on, if they are several."""
    leaf = jax.tree.leaves(params)[0]
    sharding = leaf.sharding if is_concrete(leaf) else None
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return None
    return sharding.mesh if sharding.mesh.size > 1 else None


def divided_where_possible(arrays: Sequence[Any], params: Any) -> Sequence[Any]:
    """`divided` among the devices of `params`, if their number divides the batch of all arrays."""
    mesh = mesh_of(params)
    leaves = jax.tree.leaves(arrays)
    if mesh is None or not leaves or any(isinstance(leaf, Tracer) for leaf in leaves):
        return arrays
    if any(np.ndim(leaf) < 1 or len(leaf) % mesh.size for leaf in leaves):
        return arrays
    return divided(arrays, mesh)


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
