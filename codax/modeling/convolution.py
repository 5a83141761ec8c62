"""Convolution, channel-last, with gradients that are fast on CPUs.

XLA computes a convolution on a CPU at most of the rate of its matrix products, but not what
automatic differentiation makes of it: windows as long as the signal for the kernel's gradient, and
products with the zeros between strides for the input's. So on CPUs the gradients are put as matrix
products and convolutions without holes: DAC 44.1 kHz forwards and backwards takes 3.5 s instead of
8.0 (0.38 s of audio, 2 cores), and convolutions of seven taps take fewer products
(minimal_filtering.py). GPUs and TPUs, whose libraries know all this, get XLA's own.

In bfloat16 XLA has fast matrix products on CPUs, whose sums are float32, but no such convolutions:
those it computes in float32, at that rate. So convolutions of many channels are put as matrix
products there.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .minimal_filtering import (
    Factors,
    filtered,
    frames_of_strides,
    has_fewer_products,
    tap_factors,
    taps_gradient,
    taps_of_strides,
)

DIMENSIONS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

FEWEST_CHANNELS = 64
"""From which on a strided kernel's gradient is faster as a matrix product than as XLA's windows."""

FEWEST_CHANNELS_OF_WINDOWS = 32
"""In and out, from which on a convolution in bfloat16 is faster as a product of its windows."""

FEWEST_POSITIONS = 1024
"""Of the output, below which both gradients are faster as matrix products; measured on 2 cores."""

Sizes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


def convolve(
    hidden: jax.Array,
    kernel: jax.Array,
    strides: Sizes,
    padding: Padding,
    dilations: Sizes,
    precision: lax.Precision,
    factors: Factors | None = None,
    dtype: Any = jnp.float32,
) -> jax.Array:
    """[B, *S, C_in], kernel [*K, C_in, C_out] -> float32 [B, *S', C_out], over one or two axes S.

    padding: zeros before and after, along each axis. dtype: what is multiplied is rounded to; sums
    are float32, but on GPUs and TPUs are rounded in the end too, as gradients are everywhere.
    factors: `tap_factors` of the kernel in that dtype, where they are known. It can be
    differentiated backwards, not forwards, by hidden and kernel.
    """
    hidden, kernel = hidden.astype(jnp.float32), kernel.astype(jnp.float32)
    dtype = jnp.dtype(dtype)
    return _convolve(hidden, kernel, factors, strides, padding, dilations, precision, dtype)


def _convolved(hidden, kernel, factors, strides, padding, dilations, precision, dtype):
    """XLA's own, but on CPUs in the way that takes the fewest products, or the fastest."""
    geometry = {"strides": strides, "dilations": dilations, "precision": precision}

    def plain(hidden, kernel, _, sums=dtype):
        hidden, kernel = hidden.astype(dtype), kernel.astype(dtype)
        outputs = _of_xla(hidden, kernel, padding=padding, **geometry, sums=sums)
        return outputs.astype(jnp.float32)

    def with_fewer_products(hidden, kernel, factors):
        line = _as_line(hidden, kernel, strides, padding, dilations)
        factors = tap_factors(line.kernel, dtype) if factors is None else factors
        count = len(line.kernel)
        outputs = filtered(line.hidden, factors, count, line.padding, line.dilation, precision)
        outputs = outputs[:, : line.wanted]
        return outputs.reshape(len(hidden), -1, *hidden.shape[2:-1], kernel.shape[-1])

    def of_windows(hidden, kernel, _):
        padded = jnp.pad(hidden.astype(dtype), ((0, 0), *padding, (0, 0)))
        return _product_of_windows(padded, kernel.astype(dtype), **geometry)

    on_cpu = None
    has_factors = factors is not None
    if _takes_fewer_products(hidden, kernel, strides, padding, dilations, dtype, has_factors):
        on_cpu = with_fewer_products
    elif dtype == jnp.bfloat16:
        has_many = min(kernel.shape[-2:]) >= FEWEST_CHANNELS_OF_WINDOWS and len(strides) == 1
        on_cpu = of_windows if has_many else partial(plain, sums=jnp.float32)
    if on_cpu is None:
        return plain(hidden, kernel, factors)
    return lax.platform_dependent(hidden, kernel, factors, cpu=on_cpu, default=plain)


class _Line(NamedTuple):
    """A convolution along one axis, of stride 1: hidden [B, T, C_in], kernel [K, C_in, C_out].

    wanted: outputs, where there are more
    """

    hidden: jax.Array
    kernel: jax.Array
    padding: tuple[int, int]
    dilation: int
    wanted: int | None = None


def _takes_fewer_products(
    hidden, kernel, strides, padding, dilations, dtype, are_kept: bool = False
) -> bool:
    if len(strides) == 2:
        is_line = kernel.shape[1] == 1 and strides == (1, 1) and padding[1] == (0, 0)
    else:
        spans_two = len(kernel) == 2 * strides[0] and dilations == (1,)
        is_line = strides == (1,) or spans_two
    if not is_line:
        return False
    line = _as_line(hidden, kernel, strides, padding, dilations)
    return has_fewer_products(line.hidden, line.kernel, dtype, are_kept)


def _as_line(hidden, kernel, strides, padding, dilations) -> _Line:
    """A convolution along one axis, or along the first of two, as it is with (K, 1) taps.

    Rows of W samples one after the other: what was next in its column is W samples away. One with a
    stride and as many taps as two of it goes over frames.
    """
    before, after = padding[0]
    if len(strides) == 2:
        width = hidden.shape[2]
        samples = hidden.reshape(len(hidden), -1, hidden.shape[-1])
        return _Line(samples, kernel[:, 0], (before * width, after * width), dilations[0] * width)
    (stride,) = strides
    if stride == 1:
        return _Line(hidden, kernel, (before, after), dilations[0])
    wanted = (before + hidden.shape[1] + after) // stride - 1
    frames = frames_of_strides(hidden, before, wanted, stride)
    return _Line(frames, taps_of_strides(kernel, stride), (0, 0), 1, wanted)


def _of_xla(hidden, kernel, strides, padding, dilations, precision, sums=None):
    return lax.conv_general_dilated(
        hidden,
        kernel,
        window_strides=strides,
        padding=padding,
        rhs_dilation=dilations,
        dimension_numbers=DIMENSIONS[len(strides)],
        precision=precision,
        preferred_element_type=sums,
    )


def _product_of_windows(padded, kernel, *, strides, dilations, precision):
    """Float32 [B, *S', C_out]: all that lies under the taps, side by side, times the kernel."""
    reaches = (
        (size - 1) * dilation for size, dilation in zip(kernel.shape, dilations, strict=False)
    )
    lengths = tuple(
        (size - reach - 1) // stride + 1
        for size, reach, stride in zip(padded.shape[1:-1], reaches, strides, strict=True)
    )
    windows = _windows(padded, kernel, lengths, strides, dilations)
    taps = kernel.reshape(-1, kernel.shape[-1])
    return _product(windows, taps, windows.ndim - 1, 0, precision)


def _product(one, other, axis: int, other_axis: int, precision):
    """Float32, whatever the dtype of both: of all along an axis of the one and one of the other."""
    along = (((axis,), (other_axis,)), ((), ()))
    return lax.dot_general(one, other, along, precision, preferred_element_type=jnp.float32)


def _forwards(hidden, kernel, factors, strides, padding, dilations, precision, dtype):
    outputs = _convolved(hidden, kernel, factors, strides, padding, dilations, precision, dtype)
    return outputs, (hidden.astype(dtype), kernel.astype(dtype))


def _backwards(strides, padding, dilations, precision, dtype, inputs, cotangent):
    options = {
        "strides": strides,
        "padding": padding,
        "dilations": dilations,
        "precision": precision,
    }

    def in_float32(gradients, *arrays):
        return tuple(one.astype(jnp.float32) for one in gradients(*arrays, **options))

    gradients = lax.platform_dependent(
        *inputs,
        cotangent.astype(dtype),
        cpu=partial(in_float32, _gradients),
        default=partial(in_float32, _gradients_of_xla),
    )
    return *gradients, None


_convolve: Any = jax.custom_vjp(_convolved, nondiff_argnums=(3, 4, 5, 6, 7))
_convolve.defvjp(_forwards, _backwards)


def _gradients_of_xla(hidden, kernel, cotangent, *, strides, padding, dilations, precision):
    def forwards(hidden, kernel):
        return _of_xla(hidden, kernel, strides, padding, dilations, precision)

    _, pull_back = jax.vjp(forwards, hidden, kernel)
    return pull_back(cotangent)


def _gradients(hidden, kernel, cotangent, *, strides, padding, dilations, precision):
    """(of the input, of the kernel), each in the way that is fast for its sizes."""
    geometry = {"strides": strides, "dilations": dilations, "precision": precision}
    if any(s > 1 and d > 1 for s, d in zip(strides, dilations, strict=True)):  # no codec has it
        return _gradients_of_xla(hidden, kernel, cotangent, padding=padding, **geometry)
    takes_fewer = hidden.dtype == jnp.float32 and _takes_fewer_products(
        hidden, kernel, strides, padding, dilations, hidden.dtype
    )
    is_short = not takes_fewer and math.prod(cotangent.shape[:-1]) < FEWEST_POSITIONS
    is_strided = max(strides) > 1
    if takes_fewer:
        line = _as_line(hidden, kernel, strides, padding, dilations)
        outputs = cotangent.reshape(len(hidden), -1, cotangent.shape[-1])
        of_kernel = taps_gradient(
            line.hidden, outputs, line.kernel, line.padding, line.dilation, precision
        ).reshape(kernel.shape)
    elif is_short or (is_strided and hidden.shape[-1] >= FEWEST_CHANNELS):
        padded = jnp.pad(hidden, ((0, 0), *padding, (0, 0)))
        of_kernel = _kernel_gradient(padded, kernel, cotangent, **geometry)
    else:
        inputs, around = hidden, padding
        if max(cotangent.shape[1:-1]) > max(hidden.shape[1:-1]):  # 20 times slower as it is
            inputs = jnp.pad(hidden, ((0, 0), *padding, (0, 0)))
            around = ((0, 0),) * len(strides)
        _, of_kernel = _gradients_of_xla(inputs, kernel, cotangent, padding=around, **geometry)
    by_size = _short_input_gradient if is_short else _input_gradient
    of_padded = by_size(kernel, cotangent, **geometry)
    of_input = _cut(of_padded, [before for before, _ in padding], hidden.shape[1:-1])
    return of_input, of_kernel


def _kernel_gradient(padded, kernel, cotangent, *, strides, dilations, precision):
    """[*K, C_in, C_out]: of every tap, the inputs under it times what came of them."""
    inputs = _windows(padded, kernel, cotangent.shape[1:-1], strides, dilations)
    inputs = inputs.reshape(-1, inputs.shape[-1])
    rows = cotangent.reshape(-1, cotangent.shape[-1])
    of_taps = _product(inputs, rows, 0, 0, precision)
    return of_taps.reshape(kernel.shape)


def _short_input_gradient(kernel, cotangent, *, strides, dilations, precision):
    """As `_input_gradient`, by one product and without a copy of the kernel, the larger of them."""
    taps = kernel.reshape(-1, kernel.shape[-1])
    of_taps = _product(cotangent, taps, cotangent.ndim - 1, 1, precision)
    places = _places(kernel, dilations)
    total = None
    for part, place in zip(jnp.split(of_taps, len(places), axis=-1), places, strict=True):
        ends = zip(place, places[-1], strides, strict=True)
        around = [(start, last - start, stride - 1) for start, last, stride in ends]
        part = lax.pad(part, jnp.zeros((), part.dtype), [(0, 0, 0), *around, (0, 0, 0)])
        total = part if total is None else total + part
    return total


def _places(kernel, dilations: Sizes) -> list[Sizes]:
    """Where the taps of a kernel lie, the last axis the fastest."""
    sizes = zip(kernel.shape, dilations, strict=False)
    return [*product(*(range(0, size * dilation, dilation) for size, dilation in sizes))]


def _windows(padded, kernel, lengths: Sizes, strides: Sizes, dilations: Sizes):
    """[B, *S', K C_in], what the taps of the kernel meet, side by side."""
    under = [_under_tap(padded, places, lengths, strides) for places in _places(kernel, dilations)]
    return jnp.concatenate(under, axis=-1)


def _under_tap(padded, places: Sequence[int], lengths: Sizes, strides: Sizes):
    """[B, *S', C_in], what a tap of the kernel meets."""
    stops = [
        place + (length - 1) * stride + 1
        for place, length, stride in zip(places, lengths, strides, strict=True)
    ]
    batch, channels = padded.shape[0], padded.shape[-1]
    return lax.slice(padded, (0, *places, 0), (batch, *stops, channels), (1, *strides, 1))


def _input_gradient(kernel, cotangent, *, strides, dilations, precision):
    """[B, *S, C_in] of the padded input, as far as windows reach.

    Along an axis with a stride s, s neighbouring inputs are computed as s * C_in channels of one
    frame: input t s + r meets the taps r, s + r, 2 s + r, ... of the windows t, t - 1, t - 2, ...
    """
    axes = range(len(strides))
    frames = [-(-k // s) for k, s in zip(kernel.shape[:-2], strides, strict=True)]
    filled = jnp.pad(
        kernel,
        (
            *((0, f * s - k) for f, s, k in zip(frames, strides, kernel.shape, strict=False)),
            (0, 0),
            (0, 0),
        ),
    )
    # [f, s, f', s', C_in, C_out] -> [f, f', C_out, s, s', C_in], windows in reverse
    sizes = [n for pair in zip(frames, strides, strict=True) for n in pair]
    split = filled.reshape(*sizes, *kernel.shape[-2:])
    order = (*(2 * i for i in axes), split.ndim - 1, *(2 * i + 1 for i in axes), split.ndim - 2)
    taps = jnp.flip(split.transpose(order), axis=tuple(axes))
    taps = taps.reshape(*frames, kernel.shape[-1], -1)
    reach = [(f - 1) * d for f, d in zip(frames, dilations, strict=True)]
    around = [(r, r) for r in reach]
    inputs, taps = cotangent.astype(jnp.float32), taps.astype(jnp.float32)
    steps = (1,) * len(strides)
    samples = _convolved(inputs, taps, None, steps, around, dilations, precision, cotangent.dtype)
    lengths = samples.shape[1:-1]
    samples = samples.reshape(samples.shape[0], *lengths, *strides, kernel.shape[-2])
    # [B, F, F', s, s', C] -> [B, F, s, F', s', C]
    count = len(strides)
    order = (0, *(n for i in axes for n in (1 + i, 1 + count + i)), 2 * count + 1)
    samples = samples.transpose(order)
    whole = [length * stride for length, stride in zip(lengths, strides, strict=True)]
    return samples.reshape(samples.shape[0], *whole, kernel.shape[-2])


def _cut(samples, starts: Sequence[int], lengths: Sequence[int]):
    """[B, *S, C] from `starts` on, of `lengths`: with zeros where windows did not reach."""
    for axis, (start, length) in enumerate(zip(starts, lengths, strict=True), start=1):
        missing = max(0, start + length - samples.shape[axis])
        pads = [(0, missing if i == axis else 0) for i in range(samples.ndim)]
        samples = lax.slice_in_dim(jnp.pad(samples, pads), start, start + length, axis=axis)
    return samples
