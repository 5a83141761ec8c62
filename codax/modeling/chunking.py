"""Coding in chunks: how long they are, how they overlap, and how they become a whole again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from codax.configuration.config_fields import DecodeChunks

from .devices import on_host
from .windows import Window, windows

FADE_SHARE = 4
"""Of an overlap, one frame in so many is averaged, and the others dropped (docs/chunks.md)."""

Process = Callable[[Any, Sequence[Any], Any, int], tuple[Any, Any]]
"""(state, starts, following, size) -> (state, result), for the frames [start, start + size) of each
of `starts`; the chunk after them begins at frame `following`, and gets the state.

The result is an array [S * B, ..., n], or a tree of such arrays, for S starts and B clips.
"""


@dataclass(frozen=True)
class Chunking:
    """A clip in chunks.

    size: frames that go through the network at once
    context: frames (left, right) at the inner ends of a chunk that are computed and dropped
    overlap: frames that two neighbours both keep
    is_mean: the overlap is averaged with equal weights, and the last chunks are as short as what is
        left, as hance-ai's descript-audio-codec repositories do
    """

    size: int
    context: tuple[int, int] = (0, 0)
    overlap: int = 0
    is_mean: bool = False

    @classmethod
    def of(cls, chunks: DecodeChunks, context: tuple[int, int]) -> "Chunking":
        """As a configuration or call asks for; `context` is what the network depends on."""
        overlap = min(round(chunks.overlap * chunks.frames), chunks.frames - 1)
        match chunks.mode:
            case "exact":
                return cls.exact(chunks.frames, context)
            case "mean":
                return cls(chunks.frames, overlap=overlap, is_mean=True)
        return cls.overlap_average(chunks.frames, overlap, context)

    @classmethod
    def exact(cls, frames: int, context: tuple[int, int]) -> "Chunking":
        """So many new frames at a time, with all that they depend on: nothing changes by it."""
        return cls(frames + sum(context), context)

    @classmethod
    def overlap_average(cls, frames: int, overlap: int, context: tuple[int, int]) -> "Chunking":
        """Chunks of `frames` frames, of which neighbours share `overlap`.

        Frames near the inner end of a chunk miss what `context` tells. If the overlap is as long,
        all of them are dropped: then nothing changes by it, but for an LSTM, which knows more the
        later it is, so that more is dropped at the beginning. In a shorter one a quarter is
        averaged, and what is dropped is shared out as the context is.
        """
        left, right = context
        fade = -(-overlap // FADE_SHARE)
        if overlap < left + right:
            left = round((overlap - fade) * left / (left + right))
            right = overlap - fade - left
        else:
            fade = min(fade, overlap - left - right)
            left = overlap - fade - right
        return cls(frames, (left, right), fade)

    def windows(self, num_frames: int, span: tuple[int, int] | None = None) -> Iterator[Window]:
        """The chunks of a clip, or of a span of it, whose ends are exact only in exact chunks."""
        if not self.is_mean:
            return windows(num_frames, self.size, self.context, self.overlap, span)
        if span not in (None, (0, num_frames)):
            raise ValueError('a span is decoded in chunks of mode "exact", not "mean"')
        starts = range(0, num_frames, self.size - self.overlap)
        spans = [(start, min(start + self.size, num_frames)) for start in starts]
        return (Window(*span, *span) for span in spans)

    def kept(
        self,
        process: Process,
        num_frames: int,
        units_per_frame: int = 1,
        state: Any = None,
        at_once: int = 1,
        span: tuple[int, int] | None = None,
    ) -> Iterator[Any]:
        """Run `process` over the chunks of a clip -> what each keeps, on the host.

        units_per_frame: n of an array [..., n] for a frame; what ends with the clip may have fewer
            or more, which all count
        at_once: how many chunks `process` gets, if they do not hand a state on
        span: frames to cover, if not all

        The next chunks are under way while some are fetched.
        """

        def results() -> Iterator[tuple[list[Window], Any]]:
            carried = state
            groups = _in_groups(self.windows(num_frames, span), at_once)
            for group, following in _with_following(groups):
                starts = [window.start for window in group]
                starts += starts[-1:] * (at_once - len(starts))  # one program for all groups
                carried, result = process(carried, starts, following, group[0].size)
                yield group, result

        for group, result in one_ahead(results()):
            fetched = jax.tree.map(on_host, result)
            for index, window in enumerate(group):
                kept = _span_kept(window, num_frames, units_per_frame)
                yield jax.tree.map(partial(_part, index, at_once, kept), fetched)

    def kept_traced(
        self, process: Process, num_frames: int, units_per_frame: int = 1, state: Any = None
    ) -> list[Any]:
        """`kept` inside a caller's `jax.jit`: chunks of one size are one loop of the program."""
        chunks = tuple(self.windows(num_frames))
        followed = [
            (group[0], following)
            for group, following in _with_following(_in_groups(chunks, at_once=1))
        ]
        size = chunks[0].size
        whole = [(window.start, following) for window, following in followed if window.size == size]
        state, stacked = lax.scan(
            lambda carry, now: process(carry, [now[0]], now[1], size), state, jnp.array(whole)
        )
        results = [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(len(whole))]
        for window, following in followed[len(whole) :]:
            state, result = process(state, [window.start], following, window.size)
            results.append(result)
        spans = (_span_kept(window, num_frames, units_per_frame) for window in chunks)
        return [
            jax.tree.map(lambda array, span=span: array[..., span], result)
            for span, result in zip(spans, results, strict=True)
        ]

    def fade(self, units_per_frame: int) -> np.ndarray:
        """float32 [n], the weight of the later chunk where two overlap by n."""
        length = self.overlap * units_per_frame
        if self.is_mean:
            return np.full(length, 0.5, np.float32)
        return ((np.arange(length) + 0.5) / max(length, 1)).astype(np.float32)


def is_traced(*trees: Any) -> bool:
    """Whether anything is inside a caller's `jax.jit`, where nothing can be brought to the host.

    There results of computations are traced even where nothing that enters them is.
    """
    leaves = (*jax.tree.leaves(trees), jnp.zeros(()))
    return any(isinstance(leaf, Tracer) for leaf in leaves)


def take_counts(counts: Any, starts: Sequence[Any], size: int) -> Any:
    """How many of the first `counts` lie in [start, start + size), for each of `starts`: [S * B].

    counts: int [B]; None stays None
    """
    if counts is None:
        return None
    numpy: Any = jnp if is_traced(counts, starts) else np
    return numpy.concatenate([(counts - start).clip(0, size) for start in starts])


def take_spans(array: Any, starts: Sequence[Any], size: int) -> Any:
    """array[..., start : start + size] for each of `starts`, which may be traced: [S * B, ..., n].

    None stays None.
    """
    if array is None:
        return None
    if isinstance(array, Tracer) or isinstance(starts[0], Tracer):
        spans = [lax.dynamic_slice_in_dim(array, start, size, axis=-1) for start in starts]
    else:
        spans = [array[..., start : start + size] for start in starts]
    if len(spans) == 1:
        return spans[0]
    return np.concatenate(spans)


def one_ahead(items: Iterable) -> Iterator:
    """The same items, each given out once the next one has been made."""
    before = None
    for item in items:
        if before is not None:
            yield before
        before = item
    if before is not None:
        yield before


def _part(index: int, count: int, span: slice, array: np.ndarray) -> np.ndarray:
    """Of [S * B, ..., n] for S = `count` chunks, what one of them keeps."""
    return array.reshape(count, -1, *array.shape[1:])[index][..., span]


def _span_kept(window: Window, num_frames: int, units_per_frame: int) -> slice:
    """What a window keeps of its result."""
    first = (window.keep_start - window.start) * units_per_frame
    stop = (window.keep_stop - window.start) * units_per_frame
    return slice(first, None if window.keep_stop == num_frames else stop)


def _in_groups(chunks: Iterable[Window], at_once: int) -> Iterator[list[Window]]:
    """At most `at_once` windows of one size at a time."""
    for _, same in groupby(chunks, key=lambda window: window.size):
        while group := list(islice(same, at_once)):
            yield group


def _with_following(groups: Iterable[list[Window]]) -> Iterator[tuple[list[Window], int]]:
    """Each group with the start of the next one; the last, with its own."""
    before = None
    for group in groups:
        if before is not None:
            yield before, group[0].start
        before = group
    if before is not None:
        yield before, before[0].start
