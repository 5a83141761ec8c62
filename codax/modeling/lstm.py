"""The LSTM of EnCodec, with torch's gates (Hochreiter and Schmidhuber 1997; torch.nn.LSTM)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from codax.configuration.conv_geometry import Lstm

GATES = 4  # input, forget, cell, output, in this order


class FlaxLstm(nn.Module):
    """Layers that run forward in time from a state of zeros.

    Parameters of layer l: input_kernel_l [C, 4C], hidden_kernel_l [4C, C], and, since torch keeps
    two, input_bias_l [4C] and hidden_bias_l [4C].
    """

    lstm: Lstm
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, hidden):
        """[B, T, C] -> [B, T, C]. What comes later in time has no influence."""
        for index in range(self.lstm.num_layers):
            hidden = self._run(index, hidden.astype(self.dtype))
        return hidden

    def _run(self, index: int, hidden):
        size = self.lstm.size

        def parameter(name, *shape):
            value = self.param(f"{name}_l{index}", _uniform, shape, size)
            return value.astype(self.dtype)

        input_kernel = parameter("input_kernel", size, GATES * size)
        hidden_kernel = parameter("hidden_kernel", GATES * size, size)
        bias = parameter("input_bias", GATES * size) + parameter("hidden_bias", GATES * size)
        driven = jnp.dot(hidden, input_kernel, precision=self.precision) + bias

        def step(state, driven_now):
            output, cell = state
            # This way round a CPU reads the kernel, whose size decides, from end to end.
            gates = driven_now + jnp.dot(hidden_kernel, output.T, precision=self.precision).T
            enter, keep, candidate, leave = jnp.split(gates, GATES, axis=-1)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(enter) * jnp.tanh(candidate)
            output = jax.nn.sigmoid(leave) * jnp.tanh(cell)
            return (output, cell), output

        start = jnp.zeros((len(hidden), size), self.dtype)
        _, outputs = lax.scan(step, (start, start), jnp.swapaxes(driven, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)


def _uniform(key, shape, size):
    """U(-1/sqrt(size), 1/sqrt(size)), torch's initialisation."""
    return jax.random.uniform(key, shape, jnp.float32, -(size**-0.5), size**-0.5)
