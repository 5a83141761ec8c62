"""Clips in overlapping segments, coded each for itself, and put together again."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .conv_padding import without_rest


def segment_lengths(lengths, num_segments: int, size: int, stride: int):
    """Samples int [B] -> int [S, B], of the segments that begin every `stride` samples.

    The last segment of a clip has what is left; those after it have nothing.
    """
    starts = stride * np.arange(num_segments, dtype=np.int32)
    return (lengths - starts[:, None]).clip(0, size)


def cut_segments(samples, lengths, size: int, stride: int):
    """samples [B, T, C], lengths int [B] -> segments [S, B, size, C], their lengths int [S, B]."""
    length = samples.shape[1]
    size = min(size, length)
    num_segments = -(-length // stride)
    missing = (num_segments - 1) * stride + size - length
    samples = jnp.pad(samples, ((0, 0), (0, max(missing, 0)), (0, 0)))
    positions = stride * jnp.arange(num_segments)[:, None] + jnp.arange(size)
    segments = jnp.moveaxis(jnp.take(samples, positions, axis=1), 1, 0)
    return segments, segment_lengths(lengths, num_segments, size, stride)


class OverlapAdd:
    """`overlap_add` on the host, of segments that come one by one, in bounded memory.

    stride: samples from the beginning of one segment to that of the next
    first_lengths: int [B], of the first segment of each clip, which decides the weights
    """

    def __init__(self, stride: int, first_lengths: np.ndarray):
        self._stride = stride
        self._first_lengths = first_lengths[:, None]
        self._start = 0  # where the next segment begins, and what is not settled
        self._ends = np.zeros(len(first_lengths), np.int64)  # of each clip, as far as is known
        self._total: Any = np.zeros((len(first_lengths), 1, 0), np.float32)
        self._weights = self._total

    def push(self, segment: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """The next segment [B, C, N], int [B] samples of it -> [B, C, stride]: what it settles.

        That is all before the beginning of the segment after it.
        """
        short = max(self._stride - segment.shape[-1], 0)
        segment = np.pad(segment, ((0, 0), (0, 0), (0, short)))
        missing = segment.shape[-1] - self._total.shape[-1]
        total = np.zeros(segment.shape, np.float32)
        total[..., : self._total.shape[-1]] = self._total
        weights = np.pad(self._weights, ((0, 0), (0, 0), (0, missing)))
        positions = np.arange(segment.shape[-1])
        triangle = 0.5 - np.abs((positions + 1) / (self._first_lengths + 1) - 0.5)
        weight = np.where(positions < lengths[:, None], triangle, 0).astype(np.float32)[:, None]
        with np.errstate(invalid="ignore", over="ignore"):  # who writes audio asks if it is finite
            total += weight * np.where(weight > 0, segment, 0)
        weights += weight
        self._ends = np.where(lengths > 0, self._start + lengths, self._ends)
        self._total, self._weights = total, weights
        return self._taken(self._stride)

    def flush(self) -> np.ndarray:
        """What the last segment has left, [B, C, T]."""
        return self._taken(self._total.shape[-1])

    def _taken(self, count: int) -> np.ndarray:
        total, self._total = self._total[..., :count], self._total[..., count:]
        weights, self._weights = self._weights[..., :count], self._weights[..., count:]
        positions = self._start + np.arange(total.shape[-1])
        self._start += total.shape[-1]
        mean = total / np.where(weights > 0, weights, 1)
        return np.where(positions < self._ends[:, None, None], mean, 0)


@partial(jax.jit, static_argnames="stride")
def overlap_add(segments, lengths, stride: int):
    """Join segments [S, B, N, C] of `lengths` int [S, B], one every `stride` samples -> [B, T, C].

    Each segment is weighted by a triangle as long as the clip's first segment, and the sum divided
    by the sum of the weights, so that neighbours fade into each other. T is where the last segment
    could end; what no segment reaches is zero. Where a segment reaches beyond the end of the clip's
    last one it is cut off there. Source: facebookresearch/encodec, utils.py, `_linear_overlap_add`,
    which in that last case fails.
    """
    count, batch, size, channels = segments.shape
    positions = (jnp.arange(size) + 1) / (lengths[0][:, None] + 1)
    triangle = 0.5 - jnp.abs(positions - 0.5)
    weights = jnp.broadcast_to(triangle[None, ..., None], (count, batch, size, 1))
    weighted = jnp.concatenate([segments * weights, weights], axis=-1)
    weighted = without_rest(
        weighted.reshape(count * batch, size, channels + 1), lengths.reshape(-1)
    ).reshape(count, batch, size, channels + 1)

    # Every segment in pieces of a stride; piece i of segment s lies at stride s + i.
    pieces = -(-size // stride)
    weighted = jnp.pad(weighted, ((0, 0), (0, 0), (0, pieces * stride - size), (0, 0)))
    weighted = weighted.reshape(count, batch, pieces, stride, channels + 1)
    total = jnp.zeros((count + pieces - 1, batch, stride, channels + 1), segments.dtype)
    for piece in range(pieces):
        total = total.at[piece : piece + count].add(weighted[:, :, piece])
    total = jnp.moveaxis(total, 0, 1).reshape(batch, -1, channels + 1)
    total = total[:, : (count - 1) * stride + size]

    last = jnp.maximum(jnp.sum(lengths > 0, axis=0) - 1, 0)
    ends = last * stride + jnp.take_along_axis(lengths, last[None], axis=0)[0]
    audio = total[..., :-1] / jnp.where(total[..., -1:] > 0, total[..., -1:], 1)
    return without_rest(audio, ends)
