"""Convolutions of stride 1 along time by fewer products: minimal filtering.

n neighbouring outputs of r taps take n + r - 1 products instead of n r. Inputs and taps are made
into as many sums each, which are multiplied pairwise; sums of these products are the outputs (Toom
and Cook's polynomials, transposed: Winograd 1980, "Arithmetic Complexity of Computations"; for
networks, Lavin and Gray 2016, arXiv:1509.09308). With signals for inputs, matrices for taps and
matrix products for products, the sums cost little where channels are many.

The more products at once, the more is lost to rounding. So seven taps are split, into filters of
four and of three, of 13 products for four outputs instead of 28; or, where channels are fewer,
taken as four of frames, pairs of samples that have twice the channels: 6 products of four times the
size for six outputs instead of 42, and half of the sums. They err 2 to 4 times as much as a plain
convolution: 0.7e-6 instead of 0.3e-6 of the outputs' level with 128 channels in pairs, 1.3e-6 with
768 (root mean squares). Five taps take 11 products instead of 20, or 5 of four times the size
instead of 30. Two taps, which convolutions have that go by strides and look at two of them, take 4
products for three outputs instead of 6, and err twice as much as plain ones.

The gradient of the taps is the same sums the other way round, with as few products.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

OUTPUTS = {1: 4, 2: 3}
"""Samples per frame -> neighbouring frames that are computed together."""

OUTPUTS_OF_TWO_TAPS = 3
"""Likewise."""

POINTS = (0, 1, -1, 0.5, -2, 2)
"""Where polynomials are evaluated: at as many as are needed, in this order, and at infinity.

Of all sets of small fractions these lose little to rounding (the first five, with four taps and
three outputs, 20 % less than with 2 in the place of 0.5).
"""

TAPS = (5, 7)
"""Kernels that this is for, beside those of two taps."""

GROUPS = {7: (4, 3), 5: (3, 2), 4: (4,), 3: (3,), 2: (2,)}
"""Numbers of taps, of samples or of frames -> those of the filters that they are split into."""

DTYPES = (jnp.float32, jnp.bfloat16)
"""Of products, for which sums cost less than they do."""

FEWEST_CHANNELS = 64
"""In and out, below which sums cost more than products."""

FEWEST_CHANNELS_OF_TWO_TAPS = 128
"""Likewise, of a frame that is a stride long."""

MOST_WEIGHTS_OF_TWO_TAPS = 10_000_000
"""Of a kernel; a larger one, of DAC 44.1 kHz, gains 1 % of a clip for 151 MB that are kept."""

MOST_CHANNELS_OF_PAIRS = 256
"""In and out, up to which samples are taken in pairs."""

FEWEST_POSITIONS = 512
"""In a batch, below which sums of taps cost more than is saved."""

FEWEST_FRAMES = 128
"""Likewise, of two taps, whose sums are kept: their factors are larger than the kernel."""

Factors = Sequence[jax.Array]
"""What products are made with: P of [S C_in, S C_out], S samples to a frame."""


def has_fewer_products(hidden: jax.Array, kernel: jax.Array, dtype: Any, are_kept: bool) -> bool:
    """Whether `filtered` is the faster way on a CPU: for many channels, and so many taps.

    dtype: of products; are_kept: whether factors are at hand
    DAC 44.1 kHz on 2 cores, where factors are kept: 1 s is encoded in 0.26 instead of 0.35 s and
    decoded in 0.52 instead of 0.73 s.
    """
    positions = math.prod(hidden.shape[:-1])
    if len(kernel) == 2:
        return are_kept and has_factors(kernel, dtype) and positions >= FEWEST_FRAMES
    return has_factors(kernel, dtype) and positions >= FEWEST_POSITIONS


def has_factors(kernel: Any, dtype: Any) -> bool:
    """Whether `filtered` may be the faster way with this kernel [K, C_in, C_out].

    dtype: of products. In bfloat16 two taps err too much for what they save.
    """
    if len(kernel) == 2:
        is_wide = min(kernel.shape[1:]) >= FEWEST_CHANNELS_OF_TWO_TAPS
        return is_wide and kernel.size <= MOST_WEIGHTS_OF_TWO_TAPS and dtype == jnp.float32
    return len(kernel) in TAPS and min(kernel.shape[1:]) >= FEWEST_CHANNELS and dtype in DTYPES


def taps_of_strides(kernel: Any, stride: int) -> Any:
    """A kernel [2 S, C_in, C_out] of windows S apart -> [2, S C_in, C_out], of frames of S samples.

    Any other kernel as it is, with a stride of 1, and None with another.
    """
    if stride == 1:
        return kernel
    count, channels_in, channels_out = kernel.shape
    if count != 2 * stride:
        return None
    return kernel.reshape(2, stride * channels_in, channels_out)


def frames_of_strides(hidden: jax.Array, before: int, count: int, stride: int) -> jax.Array:
    """[B, T, C] -> [B, F, S C], what windows of two strides S meet, and more to fill blocks.

    before: zeros that the first window begins with; count: of windows

    One frame more than that is padded and left out again, lest nothing be padded: XLA computes once
    what enters a padding, such as an activation, but what enters sums in each of them.
    """
    batch, length, channels = hidden.shape
    total = -(-count // OUTPUTS_OF_TWO_TAPS) * OUTPUTS_OF_TWO_TAPS + 1
    ends = (before, (total + 1) * stride - before - length, 0)
    padded = lax.pad(hidden, jnp.zeros((), hidden.dtype), ((0, 0, 0), ends, (0, 0, 0)))
    return padded.reshape(batch, total + 1, stride * channels)[:, :total]


def filtered(
    hidden: jax.Array,
    factors: Factors,
    count: int,
    padding: tuple[int, int],
    dilation: int,
    precision: lax.Precision,
) -> jax.Array:
    """float32 [B, T, C_in], `tap_factors` of `count` taps -> [B, T', C_out], of stride 1.

    padding: zeros before and after. Sums are float32 of whatever dtype the factors are.
    """
    length = hidden.shape[1] + sum(padding) - (count - 1) * dilation
    per_frame = factors[0].shape[0] // hidden.shape[-1]
    together = _together(count, per_frame)
    inputs = _inputs(hidden, padding[0], length, count, dilation, per_frame)
    left = iter(factors)
    outputs: list[Any] = [0] * together
    for first, taps in _groups(count, per_frame):
        of_inputs, _, of_products = _sums(taps, together)
        under = inputs[first : first + together + taps - 1]
        products = [_product(_sum(row, under), next(left), precision) for row in of_inputs]
        outputs = [
            output + _sum(row, products) for output, row in zip(outputs, of_products, strict=True)
        ]
    merged = jnp.stack(outputs, axis=2)  # [B, blocks, together, S, dilation, C_out]
    return merged.reshape(len(hidden), -1, merged.shape[-1])[:, :length]


def tap_factors(kernel: Any, dtype: Any = jnp.float32) -> list[Any]:
    """[K, C_in, C_out] -> the factors that `filtered` takes, in the dtype of products.

    Of an array of NumPy, NumPy's, which are rounded once.
    """
    per_frame = _samples_per_frame(kernel)
    together = _together(len(kernel), per_frame)
    frames = _taps_of_frames(kernel, per_frame)
    if isinstance(frames, np.ndarray) and len(kernel) > 2:  # sums of two round once as they are
        frames = frames.astype(np.float64)
    factors = [
        _sum(column, frames[first : first + taps])
        for first, taps in _groups(len(kernel), per_frame)
        for column in _sums(taps, together)[1]
    ]
    return [factor.astype(dtype) for factor in factors]


def taps_gradient(
    hidden: jax.Array,
    cotangent: jax.Array,
    kernel: jax.Array,
    padding: tuple[int, int],
    dilation: int,
    precision: lax.Precision,
) -> jax.Array:
    """[B, T, C_in], cotangent of the convolution [B, T', C_out] -> [K, C_in, C_out].

    kernel: of which only the shape counts
    """
    count, per_frame = len(kernel), _samples_per_frame(kernel)
    together = _together(count, per_frame)
    inputs = _inputs(hidden, padding[0], cotangent.shape[1], count, dilation, per_frame)
    outputs = _blocks(cotangent, dilation, per_frame, together)
    of_frames = []
    for first, taps in _groups(count, per_frame):
        of_inputs, of_taps, of_products = _sums(taps, together)
        under = inputs[first : first + together + taps - 1]
        products = [
            _product_over_time(_sum(row, under), _sum(column, outputs), precision)
            for row, column in zip(of_inputs, of_products.T, strict=True)
        ]
        of_frames += [_sum(row, products) for row in of_taps.T]
    to_frames = partial(_taps_of_frames, per_frame=per_frame)
    (of_kernel,) = jax.linear_transpose(to_frames, kernel)(jnp.stack(of_frames))
    return of_kernel


def _samples_per_frame(kernel) -> int:
    return 2 if len(kernel) in TAPS and min(kernel.shape[1:]) <= MOST_CHANNELS_OF_PAIRS else 1


def _together(count: int, per_frame: int) -> int:
    """Neighbouring frames that are computed together."""
    return OUTPUTS_OF_TWO_TAPS if count == 2 else OUTPUTS[per_frame]


def _taps_of_frames(kernel, per_frame: int):
    """[K, C_in, C_out] -> [K', S C_in, S C_out]: tap S q + i - j where i meets j in tap q."""
    if per_frame == 1:
        return kernel
    numpy: Any = np if isinstance(kernel, np.ndarray) else jnp
    count, channels_in, channels_out = kernel.shape
    places = _frame_taps(count, per_frame) * per_frame
    padded = numpy.pad(kernel, ((per_frame - 1, places - count), (0, 0), (0, 0)))
    starts = range(per_frame - 1, -1, -1)
    shifted = numpy.stack([padded[start : start + places] for start in starts])
    split = shifted.reshape(per_frame, -1, per_frame, channels_in, channels_out)
    order = (1, 2, 3, 0, 4)  # [j, q, i, C_in, C_out] -> [q, i, C_in, j, C_out]
    return split.transpose(order).reshape(-1, per_frame * channels_in, per_frame * channels_out)


def _frame_taps(count: int, per_frame: int) -> int:
    """How many frames the taps of a frame's outputs reach."""
    return -(-(count + per_frame - 1) // per_frame)


def _groups(count: int, per_frame: int) -> Iterator[tuple[int, int]]:
    """(first tap, number of taps) of each filter that `count` taps are split into, in frames."""
    first = 0
    for taps in GROUPS[_frame_taps(count, per_frame)]:
        yield first, taps
        first += taps


def _inputs(
    hidden, before: int, length: int, count: int, dilation: int, per_frame: int
) -> list[jax.Array]:
    """What the taps of a block of outputs meet, a frame each: [B, blocks, S, dilation, C_in].

    Nothing is added at the end where blocks are whole.
    """
    taps, together = _frame_taps(count, per_frame), _together(count, per_frame)
    size = per_frame * dilation
    blocks = -(-length // (together * size))
    total = blocks * together + taps - 1
    after = total * size - before - hidden.shape[1]
    padded = jnp.pad(hidden, ((0, 0), (before, after), (0, 0)))
    frames = padded.reshape(len(hidden), total, per_frame, dilation, -1)
    return [
        lax.slice_in_dim(frames, place, place + (blocks - 1) * together + 1, together, axis=1)
        for place in range(together + taps - 1)
    ]


def _blocks(samples, dilation: int, per_frame: int, together: int) -> list[jax.Array]:
    """[B, T, C] -> [B, blocks, S, dilation, C] of each output, with zeros for what is missing."""
    missing = -samples.shape[1] % (together * per_frame * dilation)
    padded = jnp.pad(samples, ((0, 0), (0, missing), (0, 0)))
    batch, _, channels = samples.shape
    split = padded.reshape(batch, -1, together, per_frame, dilation, channels)
    return [split[:, :, output] for output in range(together)]


@cache
def _sums(taps: int, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights: of inputs [P, P], of taps [P, K], of products [outputs, P], P = outputs + K - 1.

    Point p stands for the product of the two polynomials at p, the last for that of their leading
    coefficients. Lagrange's formula gives back the coefficients of a product of polynomials; its
    transpose, with the outputs in the place of one factor, is the filter.
    """
    points = POINTS[: outputs + taps - 2]
    others = [[q for q in points if q != p] for p in points]
    of_inputs = np.zeros((len(points) + 1, len(points) + 1))
    for row, roots in zip(of_inputs, [*others, points], strict=True):
        row[: len(roots) + 1] = np.poly(roots)[::-1]
    scales = [np.prod([p - q for q in rest]) for p, rest in zip(points, others, strict=True)]
    of_taps = np.vander([*points, 0], taps, increasing=True) / np.array([*scales, 1])[:, None]
    of_products = np.vander([*points, 0], outputs, increasing=True).T.astype(float)
    of_taps[-1] = np.arange(taps) == taps - 1
    of_products[:, -1] = np.arange(outputs) == outputs - 1
    return of_inputs, of_taps, of_products


def _sum(weights, arrays) -> Any:
    """Of arrays of one shape, each times its weight."""
    terms = [
        array if weight == 1 else array.dtype.type(weight) * array
        for weight, array in zip(weights, arrays, strict=True)
        if weight
    ]
    return sum(terms[1:], start=terms[0])


def _product(inputs, factor, precision):
    """[B, blocks, S, dilation, C_in] -> [B, blocks, S, dilation, C_out]."""
    batch, blocks, per_frame, dilation, _ = inputs.shape
    products = jnp.matmul(
        _rows(inputs).astype(factor.dtype),
        factor,
        precision=precision,
        preferred_element_type=jnp.float32,
    )
    return products.reshape(batch, blocks, dilation, per_frame, -1).swapaxes(2, 3)


def _product_over_time(inputs, outputs, precision):
    """[B, blocks, S, dilation, C_in], as many C_out -> [S C_in, S C_out]."""
    rows, columns = _rows(inputs), _rows(outputs)
    return lax.dot_general(rows, columns, (((0,), (0,)), ((), ())), precision)


def _rows(frames):
    """[B, blocks, S, dilation, C] -> [B blocks dilation, S C]."""
    *_, per_frame, _, channels = frames.shape
    return frames.swapaxes(2, 3).reshape(-1, per_frame * channels)
