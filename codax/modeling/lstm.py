"""The LSTM of EnCodec, with torch's gates (Hochreiter and Schmidhuber 1997; torch.nn.LSTM)."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from codax.configuration.conv_geometry import Lstm

GATES = 4  # input, forget, cell, output, in this order

CARRY = "carry"
"""The variable collection in which a caller gives an LSTM its state, and finds it again."""


class LstmCarry(NamedTuple):
    """What goes from one chunk of a clip to the next: `carry` of the collection `CARRY`.

    states: float32 [L, 2, B, C], output and cell of each layer before frame `enter`
    enter: int, the frame of this chunk at which `states` apply; what is before it is arbitrary
    leave: int, the frame before which the state is kept for the next chunk
    """

    states: jax.Array
    enter: jax.Array | int
    leave: jax.Array | int


class FlaxLstm(nn.Module):
    """Layers that run forward in time from a state of zeros, or from that of a `LstmCarry`.

    Parameters of layer l: input_kernel_l [C, 4C], hidden_kernel_l [4C, C], and, since torch keeps
    two, input_bias_l [4C] and hidden_bias_l [4C]. dtype: what is multiplied is rounded to.
    """

    lstm: Lstm
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, hidden):
        """[B, T, C] -> [B, T, C]. What comes later in time has no influence."""
        carry = self.get_variable(CARRY, "carry") if self.has_variable(CARRY, "carry") else None
        states = []
        for index in range(self.lstm.num_layers):
            hidden, state = self._run(index, hidden, carry)
            states.append(state)
        if carry is not None:
            self.put_variable(CARRY, "carry", carry._replace(states=jnp.stack(states)))
        return hidden

    def _run(self, index: int, hidden, carry: LstmCarry | None):
        """-> the outputs [B, T, C], and the state [2, B, C] before frame `carry.leave`."""
        size = self.lstm.size

        def parameter(name, *shape):
            return self.param(f"{name}_l{index}", _uniform, shape, size)

        def product(one, other):
            return jnp.dot(
                one.astype(self.dtype),
                other.astype(self.dtype),
                precision=self.precision,
                preferred_element_type=jnp.float32,
            )

        input_kernel = parameter("input_kernel", size, GATES * size)
        hidden_kernel = parameter("hidden_kernel", GATES * size, size).astype(self.dtype)
        bias = parameter("input_bias", GATES * size) + parameter("hidden_bias", GATES * size)
        driven = product(hidden, input_kernel) + bias
        # A CPU's product with one vector reads the kernel from end to end, as it is; with several,
        # which are multiplied by blocks of it, the other way round is 1.2 to 2 times as fast.
        is_single = len(hidden) == 1
        turned = hidden_kernel if is_single else hidden_kernel.T

        def step(state, driven_now):
            output, cell = state
            recurrent = product(turned, output.T).T if is_single else product(output, turned)
            gates = driven_now + recurrent
            enter, keep, candidate, leave = jnp.split(gates, GATES, axis=-1)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
            output = jax.nn.sigmoid(leave) * jnp.tanh(cell)
            return (output, cell), output

        def carried_step(carry: LstmCarry, entering, states, now):
            state, kept = states
            frame, driven_now = now
            state = _chosen(frame == carry.enter, entering, state)
            kept = _chosen(frame == carry.leave, state, kept)
            state, output = step(state, driven_now)
            return (state, kept), output

        start = (jnp.zeros((len(hidden), size), jnp.float32),) * 2
        driven = jnp.swapaxes(driven, 0, 1)
        if carry is None:
            state, outputs = lax.scan(step, start, driven)
        else:
            entering = tuple(carry.states[index])
            frames = jnp.arange(len(driven))
            carrying = partial(carried_step, carry, entering)
            (end, kept), outputs = lax.scan(carrying, (start, start), (frames, driven))
            state = _chosen(carry.leave == len(driven), end, kept)
        return jnp.swapaxes(outputs, 0, 1), jnp.stack(state)


def _chosen(condition, state, other):
    return jax.tree.map(lambda one, another: jnp.where(condition, one, another), state, other)


def _uniform(key, shape, size):
    """U(-1/sqrt(size), 1/sqrt(size)), torch's initialisation."""
    return jax.random.uniform(key, shape, jnp.float32, -(size**-0.5), size**-0.5)
