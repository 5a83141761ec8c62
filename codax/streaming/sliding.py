"""Windows over a signal that comes in pieces: what is determined so far, in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from codax.modeling.chunking import one_ahead
from codax.modeling.devices import on_host

STEP_RATIO = 4
"""A window takes 1, 4, 16, ... new frames: few programs are compiled, and little is in vain."""


class Windows(NamedTuple):
    """What a network runs over at a time: S windows of each of B streams.

    starts: the frame at which each window begins, in order
    following: the frame at which the next one will
    inputs: [S * B, ..., W * in_units]
    lengths: how many inputs there are in each, int [S * B]; behind them are zeros
    """

    starts: list[int]
    following: int
    inputs: np.ndarray
    lengths: np.ndarray


@dataclass(frozen=True)
class Network:
    """An encoder or decoder, as it runs over windows of one signal.

    in_units, out_units: inputs and outputs of a frame: samples of audio, or one frame of codes
    context: frames (left, right) of a window that are computed and dropped
    determined: how many outputs so many inputs determine, whatever follows
    total: how many outputs there are for so many inputs in all
    run: (state that the window before has left, or None; windows) -> (state, [S * B, ..., W *
        out_units])
    takes_lengths: `run` minds `lengths`. If not, the signal ends where its last window does.
    has_state: each window needs what the one before has left
    """

    in_units: int
    out_units: int
    context: tuple[int, int]
    determined: Callable[[int], int]
    total: Callable[[int], int]
    run: Callable[[Any, Windows], tuple[Any, Any]]
    takes_lengths: bool = False
    has_state: bool = False


class _Window(NamedTuple):
    """From frame `start`; of the outputs, counted from the beginning, [first, stop) are new."""

    start: int
    first: int
    stop: int


class Sliding:
    """Pieces of a signal [B, ..., n] in, the outputs [B, ..., m] that they determine out.

    network: what to run
    most: new frames that a window takes at most; memory depends on it, and not on the length
    at_once: windows that are run together where so much is there, if they have no state
    eager: give out all that is determined. If not, wait for `most` frames: one program serves all.

        inputs    |==================================|  (more to come)
        window              [ left | new frames | right ]
        outputs   |given ----------|new ------| not yet determined
    """

    def __init__(self, network: Network, most: int, at_once: int = 1, eager: bool = True):
        self.network = network
        self._eager = eager
        self._steps = steps_up_to(most) if eager or network.takes_lengths else [most]
        self._at_once = 1 if network.has_state else at_once
        self._state: Any = None
        self._inputs: np.ndarray | None = None
        self._dropped = 0  # inputs before those in the buffer
        self._received = 0
        self._given = 0

    def push(self, piece: np.ndarray) -> list[np.ndarray]:
        """The outputs that are determined now and were not before, in order; perhaps none."""
        return list(self.fed([piece]))

    def flush(self) -> list[np.ndarray]:
        """The outputs that are left, once the signal has ended."""
        return [self._fetched(*made) for made in self._flush()]

    def fed(self, pieces: Any) -> Iterator[np.ndarray]:
        """The outputs for many pieces; the next windows are under way while some are fetched."""
        made = (window for piece in pieces for window in self._feed(piece))
        for windows, result in one_ahead(made):
            yield self._fetched(windows, result)

    def _feed(self, piece: np.ndarray) -> Iterator[tuple[list[_Window], Any]]:
        self._received += piece.shape[-1]
        held = self._inputs
        self._inputs = piece if held is None else np.concatenate([held, piece], axis=-1)
        enough = 1 if self._eager else self._at_once * self._steps[-1] * self.network.out_units
        while self.network.determined(self._received) - self._given >= enough:
            yield self._run(self._next(), is_last=False)

    def _flush(self) -> Iterator[tuple[list[_Window], Any]]:
        network = self.network
        total = network.total(self._received)
        while self._given < total:
            frame = self._given // network.out_units
            start = max(frame - network.context[0], 0)
            is_last = self._num_frames - start <= self._size(self._steps[-1])
            windows = [_Window(start, self._given, total)] if is_last else self._next()
            yield self._run(windows, is_last)

    @property
    def _num_frames(self) -> int:
        return -(-self._received // self.network.in_units)

    def _size(self, step: int) -> int:
        return step + sum(self.network.context)

    def _next(self) -> list[_Window]:
        """The next windows of all but the last one."""
        units, (left, _) = self.network.out_units, self.network.context
        end = self.network.determined(self._received)
        frame, most = self._given // units, self._steps[-1]
        count = self._at_once if -(-end // units) - frame >= self._at_once * most else 1
        step = self._step_for(-(-end // units) - frame) if self._eager else most
        windows = []
        first = self._given
        for index in range(frame, frame + count * step, step):
            stop = min((index + step) * units, end)
            windows.append(_Window(max(index - left, 0), first, stop))
            first = stop
        return windows

    def _step_for(self, frames: int) -> int:
        return next((step for step in self._steps if step >= frames), self._steps[-1])

    def _run(self, windows: list[_Window], is_last: bool) -> tuple[list[_Window], Any]:
        network = self.network
        units = network.out_units
        if is_last:
            (window,) = windows
            # A short signal is one short window; a long one ends with a window of its others' size.
            missing = self._num_frames - window.start - self._size(0)
            is_short = self._eager or window.start == 0
            size = self._size(self._step_for(missing) if is_short else self._steps[-1])
            if not network.takes_lengths:  # the window must end with the signal
                size = min(size, self._num_frames)
                windows = [window._replace(start=self._num_frames - size)]
        else:
            frames = -(-windows[-1].stop // units) - windows[-1].first // units
            size = self._size(self._step_for(frames) if self._eager else self._steps[-1])
        # Some windows more, so that there are always as many: one program for all.
        starts = [window.start for window in windows]
        starts += starts[-1:] * (self._at_once - len(starts))
        pieces, lengths = zip(*(self._piece(start, size) for start in starts), strict=True)
        if not is_last:
            lengths = [size * network.in_units] * len(starts)
        streams = len(pieces[0])
        self._given = windows[-1].stop
        following = max(self._given // units - network.context[0], 0)
        own_lengths = np.repeat(np.array(lengths, np.int32), streams)
        self._state, result = network.run(
            self._state, Windows(starts, following, np.concatenate(pieces), own_lengths)
        )
        self._forget(following)
        return windows, result

    def _piece(self, start: int, size: int) -> tuple[np.ndarray, int]:
        """Frames [start, start + size), with zeros where there are none, and how much there is."""
        assert self._inputs is not None
        units = self.network.in_units
        first = start * units - self._dropped
        piece = self._inputs[..., first : first + size * units]
        length = piece.shape[-1]
        missing = [(0, 0)] * (piece.ndim - 1) + [(0, size * units - length)]
        return np.pad(piece, missing), length

    def _forget(self, following: int) -> None:
        """Drop what no window reaches any more: the last one may begin before the next."""
        assert self._inputs is not None
        kept = following
        if not self.network.takes_lengths:
            kept = min(following, self._num_frames - self._size(self._steps[-1]))
        dropped = max(kept * self.network.in_units - self._dropped, 0)
        self._inputs = self._inputs[..., dropped:]
        self._dropped += dropped

    def _fetched(self, windows: list[_Window], result: Any) -> np.ndarray:
        """What windows give that is new, on the host."""
        array = on_host(result)
        array = array.reshape(-1, array.shape[0] // max(self._at_once, 1), *array.shape[1:])
        units = self.network.out_units
        parts = [
            part[..., window.first - window.start * units : window.stop - window.start * units]
            for part, window in zip(array, windows, strict=False)
        ]
        return np.concatenate(parts, axis=-1)


def steps_up_to(most: int) -> list[int]:
    """1, 4, 16, ... and `most`."""
    steps = [1]
    while steps[-1] * STEP_RATIO < most:
        steps.append(steps[-1] * STEP_RATIO)
    return steps if most == 1 else [*steps, most]
