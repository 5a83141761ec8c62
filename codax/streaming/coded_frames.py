"""Codes as they come from an encoder and go to a decoder, a clip's or some frames of one."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class CodedFrames(NamedTuple):
    """Frames of one clip.

    codes: int32 [N, K, F], N streams, K codebooks
    segment_frames: of models that code segments, how many of the F frames each has; else None
    scales: float32 [N, S], by which S segments are multiplied when they are decoded, or None
    """

    codes: np.ndarray
    segment_frames: tuple[int, ...] | None = None
    scales: np.ndarray | None = None

    @property
    def num_frames(self) -> int:
        return self.codes.shape[-1]


def join_frames(pieces: Iterable[CodedFrames]) -> CodedFrames:
    """One after the other, at least one."""
    codes, frames, scales = zip(*pieces, strict=True)
    joined_frames = None
    if frames[0] is not None:
        joined_frames = tuple(count for piece in frames for count in piece)
    return CodedFrames(
        np.concatenate(codes, axis=-1),
        joined_frames,
        None if scales[0] is None else np.concatenate(scales, axis=-1),
    )
