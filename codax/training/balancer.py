"""EnCodec's loss balancer, as a pure function of gradients (Defossez et al. 2022, section 3.4).

Every loss has its share of the gradient that reaches the codec, whatever its scale. With g_i the
gradient of loss i with respect to the reconstruction and w_i its weight,

    sum over i of  g_i * total_norm * (w_i / sum of w) / (average norm of g_i + epsilon)

where the average is an exponential one over the steps, divided by what it would be of ones, so that
the first steps count in full. encodec/balancer.py; audiocraft/losses/balancer.py does the same.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp


class BalancerState(NamedTuple):
    """Exponential sums over the steps so far.

    norms: of each loss's gradient norms, float32 scalars
    steps: of ones, a float32 scalar
    """

    norms: dict[str, jax.Array]
    steps: jax.Array


class Balanced(NamedTuple):
    """What `balance` gives.

    gradient: float32 [B, C, T], to be handed on to the codec
    scales: what each loss's gradient was multiplied with, float32 scalars
    norm_ratios: each loss's average norm as a fraction of all, before scaling, float32 scalars
    """

    gradient: jax.Array
    scales: dict[str, jax.Array]
    norm_ratios: dict[str, jax.Array]
    state: BalancerState


def initial_balancer(losses: Iterable[str]) -> BalancerState:
    """The state before the first step, of losses with these names."""
    return BalancerState({name: jnp.float32(0) for name in losses}, jnp.float32(0))


def balance(
    gradients: Mapping[str, jax.Array],
    weights: Mapping[str, float],
    state: BalancerState,
    *,
    ema_decay: float = 0.999,
    total_norm: float = 1.0,
    per_item: bool = True,
    epsilon: float = 1e-12,
) -> Balanced:
    """Add up the gradients of several losses, each scaled to its share.

    gradients: of each loss with respect to the reconstruction, float32 [B, C, T]
    weights: of each loss, relative to one another; numbers, not arrays
    total_norm: the sum of the norms of the scaled gradients, on average
    per_item: a gradient's norm is the mean over the batch of its items' norms, not that of the
        whole batch. Items of a batch that is spread over devices are averaged over all of them.

    Raises `ValueError` where gradients, weights and state are not of the same losses, and where
    weights do not sum to a positive number.
    """
    _check_names(gradients, weights, state)
    norms = {name: _norm(gradient, per_item) for name, gradient in gradients.items()}
    state = _with_step(state, norms, ema_decay)
    averages = {name: total / state.steps for name, total in state.norms.items()}
    total_weight, total_average = sum(weights.values()), sum(averages.values())
    scales = {
        name: total_norm * weights[name] / total_weight / (average + epsilon)
        for name, average in averages.items()
    }
    return Balanced(
        sum((scales[name] * gradients[name] for name in scales), start=jnp.float32(0)),
        scales,
        {name: average / (total_average + epsilon) for name, average in averages.items()},
        state,
    )


def _with_step(state: BalancerState, norms: dict[str, jax.Array], decay: float) -> BalancerState:
    sums = {name: decay * state.norms[name] + norm for name, norm in norms.items()}
    return BalancerState(sums, decay * state.steps + 1)


def _norm(gradient: jax.Array, per_item: bool) -> jax.Array:
    squares = jnp.square(gradient.astype(jnp.float32))
    if not per_item:
        return jnp.sqrt(jnp.sum(squares))
    return jnp.mean(jnp.sqrt(jnp.sum(squares, axis=tuple(range(1, gradient.ndim)))))


def _check_names(gradients, weights, state):
    if not set(gradients) == set(weights) == set(state.norms):
        raise ValueError(
            f"gradients, weights and state must be of the same losses; got {sorted(gradients)}, "
            f"{sorted(weights)} and {sorted(state.norms)}"
        )
    if not sum(weights.values()) > 0:
        raise ValueError(f"weights must sum to a positive number; got {dict(weights)}")
