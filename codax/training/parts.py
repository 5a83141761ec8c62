"""A batch in parts, one after the other, so that no more than one of them takes memory at a time.

Of a tree of arrays [B, ...] a part has [B / N, ...]: every N-th item, so that a batch which is
divided among devices stays divided evenly.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def split(batch: Any, count: int) -> Any:
    """[B, ...] -> [count, B / count, ...]"""
    return jax.tree.map(
        lambda one: jnp.swapaxes(one.reshape(len(one) // count, count, *one.shape[1:]), 0, 1), batch
    )


def joined(parts: Any) -> Any:
    """[N, B / N, ...] -> [B, ...]: what `split` was given."""
    return jax.tree.map(lambda one: jnp.swapaxes(one, 0, 1).reshape(-1, *one.shape[2:]), parts)


def mapped(function: Callable[[Any], Any], parts: Any) -> Any:
    """What the function gives for each part, stacked: [N, ...]."""
    if _count(parts) == 1:
        return jax.tree.map(lambda one: one[None], function(_first(parts)))
    return lax.map(function, parts)


def summed(function: Callable[[Any], Any], parts: Any) -> Any:
    """The sum over the parts of what the function gives."""
    if _count(parts) == 1:
        return function(_first(parts))

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(part)), None

    zeros = jax.tree.map(
        lambda one: jnp.zeros(one.shape, one.dtype), jax.eval_shape(function, _first(parts))
    )
    total, _ = lax.scan(add, zeros, parts)
    return total


def _count(parts: Any) -> int:
    return len(jax.tree.leaves(parts)[0])


def _first(parts: Any) -> Any:
    return jax.tree.map(lambda one: one[0], parts)
