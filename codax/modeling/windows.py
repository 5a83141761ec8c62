"""Long clips in windows of one size: which frames go in, what is kept, how it is put together."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np


class Window(NamedTuple):
    """Frames [start, stop) are processed; of the result, frames [keep_start, keep_stop) are kept.

    All four count from the beginning of the clip.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def size(self) -> int:
        """Frames that are processed."""
        return self.stop - self.start


def windows(
    num_frames: int,
    size: int,
    context: tuple[int, int],
    overlap: int = 0,
    span: tuple[int, int] | None = None,
) -> Iterator[Window]:
    """Cover a clip of `num_frames` frames by windows of exactly `size` (one, if it fits in one).

    span: cover only the frames from the first to before the second of these

    Where a window ends inside the clip, `context` frames (left, right) are processed and dropped.
    Of what neighbours keep, `overlap` frames are the same. The windows at the ends of the clip end
    with it, as the whole clip would; the last one is moved back to have the full size, so that one
    compiled program serves all.

        clip     |==============================|
        window   [ keep     ...]
                       [... keep   ...]
                              [....... keep     ]

    Raises `ValueError` where context and overlap leave no room in a window.
    """
    first, last = span or (0, num_frames)
    if num_frames <= size:
        yield Window(0, num_frames, first, last)
        return
    left, right = context
    if size <= left + right + overlap:
        raise ValueError(
            f"windows of {size} frames have no room beside {left} + {right} of context and "
            f"{overlap} of overlap"
        )
    keep_start = keep_stop = first
    while keep_stop < last:
        start = min(max(keep_start - left, 0), num_frames - size)
        stop = start + size
        keep_stop = min(num_frames if stop == num_frames else stop - right, last)
        yield Window(start, stop, keep_start, keep_stop)
        keep_start = keep_stop - overlap


def cropped(pieces: Iterable[Any], length: int | None, skipped: int = 0) -> Iterator[Any]:
    """Of pieces [..., n], `length` samples after the `skipped` first ones; None: all after them."""
    for piece in pieces:
        beginning, piece = piece[..., :skipped], piece[..., skipped:]
        skipped -= beginning.shape[-1]
        if length is not None:
            piece = piece[..., :length]
            length -= piece.shape[-1]
        yield piece


def fitted(pieces: Iterable[np.ndarray], length: int, skipped: int = 0) -> Iterator[np.ndarray]:
    """`cropped`, with zeros where the pieces end before."""
    piece = None
    for piece in cropped(pieces, length, skipped):
        length -= piece.shape[-1]
        yield piece
    if piece is not None and length:
        yield np.zeros((*piece.shape[:-1], length), piece.dtype)


def joined(pieces: Iterable[Any], fade: np.ndarray, numpy: Any = np) -> Iterator[Any]:
    """Put pieces [..., n], each of which begins before the last one ends, together.

    fade: float32 [m], the weight of the later of two pieces where they overlap, by m samples (or
        all of a shorter piece)
    numpy: or jax.numpy, for arrays that are traced
    -> arrays [..., n] that make up the whole, one after the other, each as soon as it is final
    """
    tail = None
    for piece in pieces:
        if tail is not None:
            overlap = min(len(fade), piece.shape[-1], tail.shape[-1])
            settled = tail.shape[-1] - overlap
            weight = fade[:overlap]
            with np.errstate(invalid="ignore"):  # who writes audio asks if it is finite
                mixed = (1 - weight) * tail[..., settled:] + weight * piece[..., :overlap]
            yield tail[..., :settled]
            piece = numpy.concatenate([mixed, piece[..., overlap:]], axis=-1)
        settled = max(piece.shape[-1] - len(fade), 0)
        yield piece[..., :settled]
        tail = piece[..., settled:]
    if tail is not None:
        yield tail
