"""Samples of any usual type in, finite float32 samples out."""

import numpy as np
from numpy.typing import ArrayLike

from codax.errors import AudioError

# (dtype kind, bytes) -> (the value of silence, full scale)
_PCM = {
    ("u", 1): (2**7, 2**7),
    ("i", 1): (0, 2**7),
    ("i", 2): (0, 2**15),
    ("i", 4): (0, 2**31),
}


def as_float_audio(array: ArrayLike, name: str = "audio") -> np.ndarray:
    """Convert samples of any usual type to float32.

    array: [...], floating point, or PCM as int8, int16, int32 or uint8 (silence at 128), which is
    divided by its full scale -> float32 [...], finite. PCM lands in [-1, 1), but for the topmost
    int32 values, which round to 1. May share memory with `array`. `name` is what errors call it.

    Other integers have no full scale to divide by, so int64, which is what a list of Python
    integers becomes, is refused like bool, complex and object.

    Raises `AudioError` for such types, for ragged lists, and for NaN or infinity, whose position it
    names.
    """
    try:
        array = np.asarray(array)
    except ValueError as error:
        raise AudioError(f"{name}: rows of different lengths do not make an array") from error
    dtype = array.dtype
    if dtype.kind == "f":
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite below
            samples = array.astype(np.float32, copy=False)
    elif (dtype.kind, dtype.itemsize) in _PCM:
        silence, full_scale = _PCM[dtype.kind, dtype.itemsize]
        samples = (array.astype(np.float32) - np.float32(silence)) / np.float32(full_scale)
    else:
        raise AudioError(
            f"{name}: samples of type {dtype}; they must be floats, or PCM as int8, int16, int32 "
            "or uint8"
        )
    refuse_non_finite(samples, name)
    return samples


def refuse_non_finite(samples: np.ndarray, name: str, num_before: int = 0) -> None:
    """Raise `AudioError` naming the first sample that is NaN or infinite.

    num_before: samples that come before these, along the last axis
    """
    finite = np.isfinite(samples)
    if finite.all():
        return
    index = np.unravel_index(np.argmin(finite), samples.shape)
    value = samples[index]
    shown = [int(axis_index) for axis_index in index]
    if shown:
        shown[-1] += num_before
    raise AudioError(
        f"{name}: the sample at [{', '.join(map(str, shown))}] is {value}; audio must be finite"
    )
