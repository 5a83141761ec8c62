"""Many clips through one network, in batches of a few shapes.

Every clip becomes parts that the network can code beside any others: DAC's windows with their
context, the segments of EnCodec's 48 kHz model, whole clips elsewhere. Parts are filled up to one
of a few lengths, each of which is one compiled program, and masked, so that no code depends on what
a part is filled up with or who is beside it.
"""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from codax.errors import CodaxError
from codax.modeling.devices import on_host

Key = TypeVar("Key")

STEPS_PER_OCTAVE = 4
"""Lengths of parts between one and its double: what is filled up is 9% on average, 19% at most."""

SHORTEST_S = 0.5
"""The shortest length of a part."""

IN_FLIGHT = 2
"""Batches under way: one is computed while the other is filled or fetched."""


class Part(NamedTuple):
    """What goes through the network at once.

    array: [..., n], for as many frames as `frames`, or less at the end of a clip; what is missing
        to a longer part is zeros
    length: of the array, in what the network counts; frames: how many it has
    kept: of what comes out, along the last axis
    scale: float32 [1], or None
    """

    array: np.ndarray
    length: int
    frames: int
    kept: slice
    scale: np.ndarray | None = None

    def alone(self) -> "Part":
        """With an array of its own, so that it keeps nothing else of its clip while it waits."""
        return self._replace(array=self.array.copy())


class Work(NamedTuple):
    """One clip.

    parts: what goes through the network; nothing, for a clip that is coded by itself
    joined: makes the result of what comes out of the parts, in their order
    """

    parts: list[Part]
    joined: Callable[[list[Any]], Any]


Network = Callable[[np.ndarray, np.ndarray, np.ndarray | None], tuple]
"""(parts [B, ..., N], lengths int32 [B], scales float32 [B, 1] or None) -> a tuple, under way on
the device, of an array [B, ..., M] and what else there is for each part, [B, ...] or None."""


@dataclass(frozen=True)
class PartSizes:
    """The lengths that parts come in, in frames, and how many of them make a batch.

    shortest, longest: frames; beyond the longest, lengths go on in the same steps
    batch: frames that a batch has at most, but for one part that is longer
    devices: that divide a batch
    """

    shortest: int
    longest: int
    batch: int
    devices: int = 1

    def size_of(self, frames: int) -> int:
        """The shortest length for so many frames. Steps count from `longest`, to both sides."""
        frames = max(frames, self.shortest)
        step = math.floor(STEPS_PER_OCTAVE * math.log2(self.longest / frames))
        sizes = (self._size(one) for one in (step + 1, step, step - 1))
        return next(size for size in sizes if size >= frames)

    def _size(self, step: int) -> int:
        return round(self.longest * 2 ** (-step / STEPS_PER_OCTAVE))

    def rows_of(self, size: int) -> int:
        """Parts of this length in a batch."""
        return max(self.batch // size // self.devices, 1) * self.devices


class Batches:
    """Runs the parts of many clips through a network, batch by batch."""

    def __init__(self, network: Network, sizes: PartSizes, units: int):
        """units: of a part's array, for a frame."""
        self._network = network
        self._sizes = sizes
        self._units = units

    def run(self, clips: Iterable[tuple[Key, Work]]) -> Iterator[tuple[Key, Any]]:
        """-> (key, result) of each clip, as soon as it is there, which is not the order given.

        The result of a clip that cannot be coded is a `CodaxError` or an `OSError`.
        """
        waiting: dict[tuple, list[_Row]] = defaultdict(list)
        under_way: deque[tuple[list[_Row], tuple]] = deque()
        for key, work in clips:
            clip = _Clip(key, len(work.parts), work.joined)
            if not work.parts:
                yield key, clip.result()
            for index, part in enumerate(work.parts):
                size = self._sizes.size_of(part.frames)
                like, count = (size, *part.array.shape[:-1]), self._sizes.rows_of(size)
                fills_up = len(waiting[like]) + 1 == count
                waiting[like].append(_Row(clip, index, part if fills_up else part.alone()))
                if fills_up:
                    under_way.append(self._started(waiting.pop(like)))
            while len(under_way) >= IN_FLIGHT:
                yield from _finished(*under_way.popleft())
        for rows in self._left(waiting):
            under_way.append(self._started(rows))
            if len(under_way) >= IN_FLIGHT:
                yield from _finished(*under_way.popleft())
        while under_way:
            yield from _finished(*under_way.popleft())

    def run_one(self, work: Work) -> Any:
        """The result of one clip, which has parts. Raises where it cannot be coded."""
        ((_, result),) = self.run([(None, work)])
        if isinstance(result, Exception):
            raise result
        return result

    def _left(self, waiting: dict[tuple, list["_Row"]]) -> Iterator[list["_Row"]]:
        """What filled no batch: shorter parts join the longer ones."""
        by_shape = defaultdict(list)
        for (_, *shape), rows in sorted(waiting.items(), reverse=True):
            by_shape[tuple(shape)] += rows
        for rows in by_shape.values():
            while rows:
                count = self._sizes.rows_of(self._sizes.size_of(rows[0].part.frames))
                yield rows[:count]
                rows = rows[count:]

    def _started(self, rows: list["_Row"]) -> tuple[list["_Row"], tuple]:
        """The first of the rows is the longest."""
        first = rows[0].part
        size = self._sizes.size_of(first.frames)
        count = self._sizes.rows_of(size)
        arrays = np.zeros((count, *first.array.shape[:-1], size * self._units), first.array.dtype)
        lengths = np.zeros(count, np.int32)
        scales = None if first.scale is None else np.ones((count, 1), np.float32)
        for index, (_, _, part) in enumerate(rows):
            arrays[index, ..., : part.array.shape[-1]] = part.array
            lengths[index] = part.length
            if scales is not None:
                scales[index] = part.scale
        return rows, self._network(arrays, lengths, scales)


@dataclass
class _Clip:
    """A clip on its way, and what came out of its parts so far."""

    key: Any
    num_parts: int
    joined: Callable[[list[Any]], Any]
    by_part: dict[int, tuple] = field(default_factory=dict)

    def result(self) -> Any:
        try:
            return self.joined([self.by_part[index] for index in range(len(self.by_part))])
        except (CodaxError, OSError) as error:
            return error


class _Row(NamedTuple):
    clip: _Clip
    index: int
    part: Part


def _finished(rows: list[_Row], outputs: tuple) -> Iterator[tuple[Any, Any]]:
    """The clips whose last parts these are."""
    array, *others = jax.tree.map(on_host, outputs)
    for row, (clip, index, part) in enumerate(rows):
        kept = array[row][..., part.kept].copy()  # a view would keep all of the batch
        clip.by_part[index] = (kept, *(None if one is None else one[row] for one in others))
        if len(clip.by_part) == clip.num_parts:
            yield clip.key, clip.result()
