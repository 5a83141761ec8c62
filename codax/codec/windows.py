"""Long clips in windows of one size, each with enough context that nothing changes by it."""

from collections.abc import Iterator
from typing import NamedTuple


class Window(NamedTuple):
    """Frames [start, stop) are processed; of the result, frames [keep_start, keep_stop) are kept.

    All four count from the beginning of the clip.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def windows(num_frames: int, size: int, context: tuple[int, int]) -> Iterator[Window]:
    """Cover a clip of `num_frames` frames by windows of exactly `size` (one, if it fits in one).

    Where a window ends inside the clip, `context` frames (left, right) are processed and dropped.
    The windows at the ends of the clip end with it, as the whole clip would; the last one is moved
    back to have the full size, so that one compiled program serves all.

        clip     |==============================|
        window   [ keep     ...]
                       [... keep   ...]
                              [....... keep     ]
    """
    if num_frames <= size:
        yield Window(0, num_frames, 0, num_frames)
        return
    left, right = context
    if size <= left + right:
        raise ValueError(
            f"windows of {size} frames have no room beside {left} + {right} of context"
        )
    kept = 0
    while kept < num_frames:
        start = min(max(kept - left, 0), num_frames - size)
        stop = start + size
        keep_stop = num_frames if stop == num_frames else stop - right
        yield Window(start, stop, kept, keep_stop)
        kept = keep_stop
