"""Flax modules that run a network given as data (conv_geometry), channel-last: [B, T, C].

Kernels are plain (weight norm is folded); training reparametrises them from outside.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from codax.configuration.conv_geometry import (
    Conv,
    Elu,
    Group,
    Layer,
    Lstm,
    Snake,
    Tanh,
    convolutions,
)

from .activations import elu, snake
from .conv_padding import needs_own_padding, pad_for, without_rest
from .convolution import convolve
from .kept_factors import TAP_FACTORS
from .lstm import FlaxLstm
from .time_blocks import spans

FEWEST_CHANNELS_ROUNDED = 16
"""In and out, from which on what convolutions multiply is rounded to their dtype.

What narrower ones save is nothing, but what they err is heard: of all that DAC 44.1 kHz loses to
bfloat16, the convolution to one channel at the end loses nine tenths (46.3 instead of 36.8 dB below
the audio, with the weights that transformers initialises).
"""


def uniform_by_fan_in(key, shape, fan_in, dtype=jnp.float32):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): what torch's convolutions, and so DAC's, start from."""
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class FlaxConv(nn.Module):
    """A convolution over time. Parameters: kernel [K, C_in, C_out], bias [C_out]; its norm's.

    dtype: what is multiplied is rounded to, where channels are not too few. Here and in all other
    layers what comes out is float32.
    """

    conv: Conv
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, hidden, padded: bool = True, lengths=None):
        """[B, T, C_in] -> [B, T', C_out]; without padding where `padded` is False.

        lengths: int [B], of items that are shorter than T: each comes out as it would alone.
        """
        conv = self.conv
        shape = (conv.kernel_size, conv.in_channels, conv.out_channels)
        kernel = self.param("kernel", uniform_by_fan_in, shape, shape[0] * shape[1])
        bias = self.param("bias", nn.initializers.zeros, (conv.out_channels,))
        dtype = self.dtype if min(shape[1:]) >= FEWEST_CHANNELS_ROUNDED else jnp.float32
        padding = conv.padding if padded else (0, 0)
        if padded and needs_own_padding(conv, lengths):
            hidden, padding = pad_for(conv, hidden, lengths), (0, 0)
        hidden = convolve(
            hidden,
            kernel,
            (conv.stride,),
            (padding,),
            (conv.dilation,),
            self.precision,
            self.get_variable(TAP_FACTORS, "kernel"),
            dtype,
        )
        if not conv.time_group_norm:
            return hidden + bias
        lengths_out = None if lengths is None else conv.output_length(lengths, padded)
        return FlaxTimeGroupNorm(conv.out_channels, name="norm")(hidden, bias, lengths_out)


class FlaxConvTranspose(nn.Module):
    """A transposed convolution whose kernel spans two strides, as a convolution over frames.

    Each frame becomes 2s samples, and its second half falls on the first half of the next frame's:

        frame 0   [ head | tail ]
        frame 1          [ head | tail ]
        frame 2                 [ head | tail ]
        output    [  s   |  s   |  s   |  s   ]    then `padding` samples are cropped at the ends

    So s output samples are a convolution of two taps, the tail of the frame before and the head of
    this one, with s * C_out channels. XLA's own route (lhs_dilation) multiplies by the inserted
    zeros, and adding up the halves afterwards costs three more passes through memory.
    Parameters: kernel [2, C_in, s * C_out], tail first; bias [C_out]; its norm's.
    """

    conv: Conv
    dtype: jnp.dtype
    precision: lax.Precision

    @nn.compact
    def __call__(self, hidden, padded: bool = True, lengths=None):
        """[B, F, C_in] -> [B, (F + 1) * stride - padding, C_out]; `lengths` as in `FlaxConv`."""
        conv = self.conv
        shape = (2, conv.in_channels, conv.stride * conv.out_channels)
        kernel = self.param("kernel", uniform_by_fan_in, shape, 2 * conv.in_channels)
        bias = self.param("bias", nn.initializers.zeros, (conv.out_channels,))
        if lengths is not None:
            hidden = without_rest(hidden, lengths)
        samples = convolve(
            hidden,
            kernel,
            (1,),
            ((1, 1),),
            (1,),
            self.precision,
            self.get_variable(TAP_FACTORS, "kernel"),
            self.dtype,
        )
        samples = samples.reshape(samples.shape[0], -1, conv.out_channels)
        if conv.time_group_norm:
            full_lengths = None if lengths is None else conv.output_length(lengths, padded=False)
            samples = FlaxTimeGroupNorm(conv.out_channels, name="norm")(samples, bias, full_lengths)
        else:
            samples = samples + bias
        left, right = conv.padding if padded else (0, 0)
        return samples[:, left : samples.shape[1] - right]


class FlaxTimeGroupNorm(nn.Module):
    """Normalisation over time and channels together. Parameters: scale [C], bias [C].

    torch.nn.GroupNorm with one group.
    """

    channels: int
    EPSILON: ClassVar = 1e-5

    @nn.compact
    def __call__(self, hidden, offset, lengths=None):
        """[B, T, C], to which offset [C] is added -> [B, T, C]; statistics over `lengths` int [B].

        The barriers keep XLA from writing hidden + offset and what is left without its mean to
        memory, for later use: computing them again is faster (1.9 for 3.1 ms on 2 cores, 48,000
        samples of 32 channels with the convolution before and the activation after).
        """
        scale = self.param("scale", nn.initializers.ones, (self.channels,))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        means = _mean_over_time(hidden, lengths) + offset
        shift = offset - jnp.mean(means, axis=2, keepdims=True)
        hidden, shift = lax.optimization_barrier((hidden, shift))
        squares = _mean_over_time((hidden + shift) ** 2, lengths)
        variance = jnp.mean(squares, axis=2, keepdims=True)
        hidden, shift, variance = lax.optimization_barrier((hidden, shift, variance))
        return (hidden + shift) * (lax.rsqrt(variance + self.EPSILON) * scale) + bias


def _mean_over_time(signal, lengths):
    """float32 [B, T, C] -> [B, 1, C], the mean over the first `lengths` int [B] of T."""
    if lengths is None:
        return jnp.mean(signal, axis=1, keepdims=True)
    sums = jnp.sum(without_rest(signal, lengths), axis=1, keepdims=True)
    return sums / jnp.maximum(lengths, 1).astype(jnp.float32)[:, None, None]


class FlaxSnake(nn.Module):
    """`snake`, an alpha for each channel. Parameters: alpha [C]."""

    snake: Snake

    @nn.compact
    def __call__(self, hidden):
        """[B, T, C] -> [B, T, C]."""
        alpha = self.param("alpha", nn.initializers.ones, (self.snake.channels,))
        return snake(hidden, alpha)


class FlaxLayers(nn.Module):
    """Runs layers in sequence, and adds the input where they are residual.

    dtype: what is multiplied in convolutions and LSTMs is rounded to. All else is float32, what
    leaves a convolution too. in_blocks: of time, where that is faster on a CPU (time_blocks.py).
    """

    layers: tuple[Layer, ...]
    dtype: jnp.dtype
    precision: lax.Precision
    residual: bool = False
    shortcut: Layer | None = None
    in_blocks: bool = False

    CONV_MODULES: ClassVar = {False: FlaxConv, True: FlaxConvTranspose}

    @nn.compact
    def __call__(self, hidden, padded: bool = True, lengths=None):
        """[B, T, C] -> [B, T', C']; without padding in any convolution where `padded` is False.

        lengths: int [B], of items that are shorter than T: each comes out as it would alone, up to
            its own length; what follows is arbitrary.
        """
        entered, entered_lengths = hidden, lengths
        may_use_blocks = self.in_blocks and padded and not self.is_initializing()
        at_once = [(self.layers, None)]
        for span, blocks in spans(self.layers, hidden.shape[1]) if may_use_blocks else at_once:
            if blocks is not None:
                hidden = blocks.run(self._alone(span), hidden, lengths)
            for layer in span:
                if blocks is None:
                    hidden = self._run(layer, hidden, padded, lengths)
                if lengths is not None:
                    for conv in convolutions((layer,)):
                        lengths = conv.output_length(lengths, padded)
        if not self.residual:
            return hidden
        if self.shortcut is not None:
            entered = self._run(self.shortcut, entered, padded, entered_lengths)
        if not padded:  # each convolution lost what it would have padded
            lost = sum(conv.padding[0] for conv in convolutions(self.layers))
            entered = entered[:, lost : lost + hidden.shape[1]]
        return entered + hidden

    def _alone(self, span: tuple[Layer, ...]) -> Callable[[Any, bool, Any], Any]:
        """Some of the layers, as a function that JAX may transform."""
        layers = FlaxLayers(span, self.dtype, self.precision, parent=None)
        return partial(layers.apply, self.variables)

    def _run(self, layer: Layer, hidden, padded: bool, lengths):
        match layer:
            case Conv(name=name, transposed=transposed):
                module = self.CONV_MODULES[transposed](layer, self.dtype, self.precision, name=name)
                return module(hidden, padded, lengths)
            case Group(name, layers, residual, shortcut):
                group = FlaxLayers(
                    layers,
                    self.dtype,
                    self.precision,
                    residual,
                    shortcut,
                    self.in_blocks,
                    name=name,
                )
                return group(hidden, padded, lengths)
            case Snake(name=name):
                return FlaxSnake(layer, name=name)(hidden)
            case Lstm(name=name):
                return FlaxLstm(layer, self.dtype, self.precision, name=name)(hidden)
            case Tanh():
                return jnp.tanh(hidden)
            case Elu():
                return elu(hidden)
