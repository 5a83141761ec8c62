"""Layers run over a long signal block by block, so that what lies between them stays in cache.

A span of convolutions at a high rate makes arrays of tens of megabytes, which a CPU writes to
memory, to pages that the system has to clear first, and reads back, layer by layer. In blocks of a
few megabytes it does not: DAC 44.1 kHz encodes 10 s in 2.76 instead of 3.15 s and decodes them in
5.51 instead of 5.91 s, EnCodec 24 kHz in 0.259 instead of 0.295 s and 0.265 instead of 0.286 s (2
cores). GPUs, which want all there is to do at once, and gradients, which need what lies between the
layers, have no use for it: `FlaxPreTrainedCodec` decides.

    window      [ context | kept          | context ]
    next                          [ context | kept          | context ]

The windows are of one size. Those that begin or end with the signal have its padding there, and
less context; elsewhere what the padding of a window reaches is not kept. So the numbers are those
of the whole, as far as sums of products do not depend on the length. Layers that pad by mirroring,
each of which copies the signal, run unpadded where a window lies within an item.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from codax.configuration.conv_geometry import (
    Conv,
    Layer,
    Lstm,
    convolutions,
    input_span,
    named_layers,
    output_length,
    reach,
)

BLOCK_BYTES = 2_500_000
"""Of the largest array between the layers, for a block."""

KERNEL_BYTES = 2_500_000
"""Of the layers at a rate, from which on they do not share blocks with those before them."""

FEWEST_BLOCKS = 12
"""Below which nothing is gained."""

LARGEST_CONTEXT = 0.125
"""Of a block, on both sides together; what lies there is computed twice."""


class TimeBlocks(NamedTuple):
    """How a span of layers is run over a signal.

    A unit is what goes by a sample at the lower rate: `unit_in` samples that enter, `unit_out` that
    come out. Of each window:

        window      [ before     | size                      |          ]  in units
        inner             [                                      ]         decides what is kept
        made of it    [ surplus  | kept                      |     ]       unpadded

    count: of blocks
    size, before: units that each keeps, and units of context before them
    window: samples that enter for a block
    length, length_out: of the whole, in samples
    mirrors: whether layers pad by mirroring
    inner: samples of a window within the signal, from and to
    surplus: samples that unpadded layers make of these before those that are kept
    """

    count: int
    size: int
    before: int
    unit_in: int
    unit_out: int
    window: int
    length: int
    length_out: int
    mirrors: bool
    inner: tuple[int, int]
    surplus: int

    def run(self, layers: Callable[[Any, bool, Any], Any], hidden: Any, lengths: Any) -> Any:
        """[B, T, C], int [B] or None -> [B, T', C'], one item after the other.

        layers: of a window, whether it is padded, and its items' lengths
        """

        def one(item: tuple[Any, Any]) -> Any:
            hidden, length = item
            return self._run_one(layers, hidden[None], None if length is None else length[None])[0]

        if len(hidden) == 1:
            return self._run_one(layers, hidden, lengths)
        return lax.map(one, (hidden, lengths))

    def _run_one(self, layers: Callable[[Any, bool, Any], Any], hidden: Any, lengths: Any) -> Any:
        last_start = (self.length - self.window) // self.unit_in
        kept = self.size * self.unit_out

        def window_at(start: Any) -> Any:
            return lax.dynamic_slice_in_dim(hidden, start * self.unit_in, self.window, axis=1)

        def padded(index: Any) -> tuple[Any, Any]:
            start = jnp.clip(index * self.size - self.before, 0, last_start)
            own = None if lengths is None else (lengths - start * self.unit_in).clip(0, self.window)
            first = jnp.minimum(index * kept, self.length_out - kept)
            outputs = layers(window_at(start), True, own)
            skipped = first - start * self.unit_out
            return lax.dynamic_slice_in_dim(outputs, skipped, kept, axis=1), first

        def unpadded(index: Any) -> tuple[Any, Any]:
            window = window_at(index * self.size - self.before)
            outputs = layers(window[:, slice(*self.inner)], False, None)
            return outputs[:, self.surplus : self.surplus + kept], index * kept

        def put(block: Callable[[Any], tuple[Any, Any]], index: Any, whole: Any) -> Any:
            return lax.dynamic_update_slice_in_dim(whole, *block(index), axis=1)

        outputs, _ = jax.eval_shape(padded, 0)
        whole = jnp.zeros((1, self.length_out, outputs.shape[-1]), outputs.dtype)
        if not self.mirrors:
            return lax.fori_loop(0, self.count, partial(put, padded), whole)
        end = self._end_of_the_inside(lengths)
        whole = lax.fori_loop(1, end, partial(put, unpadded), whole)
        at_ends = partial(put, lambda index: padded(jnp.where(index, end + index - 1, 0)))
        return lax.fori_loop(0, self.count - end + 1, at_ends, whole)

    def _end_of_the_inside(self, lengths: Any) -> Any:
        """The first window but that at the beginning which is not within the item, at least 1."""
        length = self.length if lengths is None else lengths[0]
        last_start = (length - self.window) // self.unit_in
        last = jnp.minimum(
            (last_start + self.before) // self.size,
            self.length_out // (self.size * self.unit_out) - 1,
        )
        return jnp.maximum(last + 1, 1)


def spans(
    layers: Sequence[Layer], length: int
) -> Iterator[tuple[tuple[Layer, ...], TimeBlocks | None]]:
    """(layers that are run together, how; None: at once), for [B, length, C] that enter.

    Blocks go through one rate after the other, for as long as kernels stay in cache too.
    """
    rates = deque(_rates(layers))
    while rates:
        span = rates.popleft()
        blocks = time_blocks(span, length)
        while blocks and rates and _kernel_bytes(rates[0]) < KERNEL_BYTES:
            longer = time_blocks(span + rates[0], length)
            if longer is None:
                break
            span, blocks = span + rates.popleft(), longer
        yield span, blocks
        length = output_length(convolutions(span), length)


def _kernel_bytes(layers: Sequence[Layer]) -> int:
    return 4 * sum(
        conv.kernel_size * conv.in_channels * conv.out_channels for conv in convolutions(layers)
    )


def _rates(layers: Sequence[Layer]) -> Iterator[tuple[Layer, ...]]:
    """The layers at each rate, to where it ends; what cannot go by blocks by itself."""
    span: list[Layer] = []
    for layer in layers:
        rises = any(conv.transposed for conv in convolutions((layer,)))
        if span and (rises or not _is_local(layer)):
            yield tuple(span)
            span = []
        span.append(layer)
        falls = any(c.stride > 1 and not c.transposed for c in convolutions((layer,)))
        if falls or not _is_local(layer):
            yield tuple(span)
            span = []
    if span:
        yield tuple(span)


def time_blocks(layers: Sequence[Layer], length: int) -> TimeBlocks | None:
    """How to run layers over [B, length, C]; None where they are better run at once.

    Whatever B is: convolutions by fewer products round by the place in a window, and codes must not
    depend on what else is in a batch.
    """
    convs = convolutions(layers)
    if not convs or not all(map(_is_local, layers)):
        return None
    length_out = output_length(convs, length)
    rise = math.prod(conv.stride for conv in convs if conv.transposed)
    fall = math.prod(conv.stride for conv in convs if not conv.transposed)
    if min(rise, fall) > 1 or length_out < 1:
        return None
    units = -(-length_out // rise)
    start, stop = reach(convs, rise)
    before, after = -(start // fall), max(-((fall - stop) // fall), 0)
    wanted = 4 * _largest(convs, length) / BLOCK_BYTES
    size = max(math.ceil(units / max(wanted, 1)), math.ceil((before + after) / LARGEST_CONTEXT))
    count = -(-units // size)
    size = -(-units // count)
    window = (size + before + after) * fall + length % fall
    first = before * rise
    inner = input_span(convs, first, first + size * rise)
    is_within = window <= length and inner[0] >= 0 and inner[1] <= window
    is_enough = output_length(convs, window) >= first + size * rise
    if count < FEWEST_BLOCKS or not is_within or not is_enough:
        return None
    surplus = first - _first_unpadded(convs, inner[0])
    mirrors = any(conv.pad_mode == "reflect" for conv in convs)
    return TimeBlocks(
        count, size, before, fall, rise, window, length, length_out, mirrors, inner, surplus
    )


def _first_unpadded(convs: Sequence[Conv], position: int) -> int:
    """Which of the padded signal's outputs is the first, unpadded, for inputs from `position`.

    There the windows of strided convolutions begin, as `input_span` has it.
    """
    for conv in convs:
        left = conv.padding[0]
        if conv.transposed:
            position = position * conv.stride - left
        else:
            position = (position + left) // conv.stride
    return position


def _is_local(layer: Layer) -> bool:
    """Whether what comes out depends on what is near alone."""
    inside = [one for _, one in named_layers((layer,))]
    return not any(
        isinstance(one, Lstm) or (isinstance(one, Conv) and one.time_group_norm) for one in inside
    )


def _largest(convs: Sequence[Conv], length: int) -> int:
    """Numbers in the largest array that enters or leaves a convolution."""
    sizes = []
    for conv in convs:
        sizes.append(length * conv.in_channels)
        length = conv.output_length(length)
        sizes.append(length * conv.out_channels)
    return max(sizes)
