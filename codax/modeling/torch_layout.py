"""transformers' torch weights <-> the Flax tree, by the table in weight_table.py.

Both ways are complete: every stored key is used, every leaf filled, all faults told at once.
"""

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from codax.errors import CheckpointError

from .weight_table import WeightRule

READERS = 4  # threads: one reads while others reorder what was read


def params_from_torch(
    rules: Iterable[WeightRule], state: Mapping[str, np.ndarray], source: str
) -> dict:
    """A torch state dict -> the Flax tree (float32), weight norm folded where it is not yet.

    `state` may be lazy: each entry is read once, and let go before the next. Raises
    `CheckpointError` that lists every missing, unexpected, mis-shaped and non-finite weight.
    """
    faults = []
    stored: list[tuple[WeightRule, tuple[str, ...]]] = []
    unused = set(state)
    for rule in rules:
        keys = _stored_keys(rule, unused)
        if keys is None:
            faults.append(f"missing: {rule.torch_key}")
        else:
            unused.difference_update(keys)
            stored.append((rule, keys))
    params = {}
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda entry: _read_leaf(entry[0], entry[1], state), stored)
        for (rule, _), (leaf, found) in zip(stored, read, strict=True):
            faults.extend(found)
            params[rule.flax_path] = leaf
    faults.extend(f"unexpected: {key}" for key in sorted(unused))
    raise_faults(faults, source)
    return unflatten_dict(params)


def params_from_flax(rules: Iterable[WeightRule], tree: Mapping, source: str) -> dict:
    """A nested tree in Flax's own layout -> the same, checked, as float32 device arrays."""
    leaves = _checked_leaves(rules, tree, source)
    return unflatten_dict(
        {rule.flax_path: jax.device_put(np.asarray(leaf, np.float32)) for rule, leaf in leaves}
    )


def params_to_torch(
    rules: Iterable[WeightRule],
    params: Mapping,
    source: str = "params",
    old_spelling: bool = False,
) -> dict[str, np.ndarray]:
    """The Flax tree -> a torch state dict (float32), checked likewise.

    old_spelling: of weight norm's parameters, `weight_g` and `weight_v`
    """
    state = {}
    for rule, leaf in _checked_leaves(rules, params, source):
        state.update(rule.to_torch(leaf, spelling=int(old_spelling)))
    return state


def _checked_leaves(
    rules: Iterable[WeightRule], tree: Mapping, source: str
) -> list[tuple[WeightRule, np.ndarray]]:
    """Every rule with its leaf of a Flax tree; `CheckpointError` listing all faults."""
    leaves = dict(flatten_dict(tree))
    faults, found = [], []
    for rule in rules:
        leaf = _as_array(leaves.pop(rule.flax_path, None))
        fault = "missing" if leaf is None else _fault_of(leaf, rule.flax_shape)
        if fault:
            faults.append(f"{fault}: {'.'.join(rule.flax_path)}")
        else:
            found.append((rule, leaf))
    faults.extend(f"unexpected: {'.'.join(map(str, path))}" for path in sorted(leaves, key=str))
    raise_faults(faults, source)
    return found


def _as_array(leaf: Any) -> np.ndarray | None:
    try:
        return None if leaf is None else np.asarray(leaf)
    except ValueError:  # nested lists of uneven lengths
        return np.empty(0, object)


def raise_faults(faults: list[str], source: str) -> None:
    """One error for all that is wrong with a checkpoint; none for no faults."""
    if faults:
        raise CheckpointError(
            f"{source}: {len(faults)} weights do not fit the model: {'; '.join(faults)}"
        )


def _stored_keys(rule: WeightRule, available: set[str]) -> tuple[str, ...] | None:
    """The stored keys that make up a weight: its own, or its gain and direction."""
    for keys in ((rule.torch_key,), *rule.weight_norm_keys()):
        if available.issuperset(keys):
            return keys
    return None


def _read_leaf(
    rule: WeightRule, keys: tuple[str, ...], state: Mapping[str, np.ndarray]
) -> tuple[jax.Array | None, list[str]]:
    """As `_read_weight`, in Flax's layout and on the device."""
    weight, faults = _read_weight(rule, keys, state)
    return None if weight is None else jax.device_put(rule.to_flax(weight)), faults


def _read_weight(
    rule: WeightRule, keys: tuple[str, ...], state: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | None, list[str]]:
    """(the weight in torch's layout, no faults), or (None, what is wrong with its parts)."""
    shape = rule.torch_shape
    shapes = (shape,) if len(keys) == 1 else (rule.gain_shape, shape)
    arrays = [state[key] for key in keys]
    faults = [
        f"{fault}: {key}"
        for key, array, expected in zip(keys, arrays, shapes, strict=True)
        if (fault := _fault_of(array, expected))
    ]
    if faults or len(keys) == 1:
        return (None if faults else arrays[0]), faults
    weight = _fold(*arrays)
    fault = _fault_of(weight, shape)
    return (None, [f"{fault}: {rule.torch_key}, folded"]) if fault else (weight, [])


def _fold(gain: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """g * v / |v| with the norm over all axes but the first; float32.

    No epsilon, as in torch: a direction of zeros gives NaN. The first axis is the output channel of
    a convolution and the input channel of a transposed one.
    """
    direction = direction.astype(np.float64)
    norm = np.linalg.norm(direction.reshape(len(direction), -1), axis=1)
    norm = norm.astype(np.float32).reshape(gain.shape)
    with np.errstate(invalid="ignore"):
        return (gain * (direction / norm)).astype(np.float32)


def _fault_of(weight: np.ndarray, shape: tuple[int, ...]) -> str | None:
    if weight.shape != shape:
        return f"shape {weight.shape} instead of {shape}"
    if not np.issubdtype(weight.dtype, np.floating) and weight.dtype.name != "bfloat16":
        return f"dtype {weight.dtype} is not a float type"
    # The sum is finite exactly where all values are, short of an overflow of astronomic weights.
    with np.errstate(all="ignore"):
        is_finite = math.isfinite(np.sum(weight, dtype=np.float32))
    if not is_finite:
        return "NaN or infinite values"
    return None
