"""Sampling-rate conversion."""

import numpy as np
import soxr

from codax.errors import AudioError

_QUALITY = "HQ"  # 20-bit precision: errors near -120 dB, below the noise floor of 16-bit audio


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Convert samples from one sampling rate to another with soxr.

    samples: float32 or float64 [..., T] at `from_rate` Hz -> the same type [..., T'] at `to_rate`
    Hz, where T' is exactly ceil(T * to_rate / from_rate). Equal rates return `samples` itself.

    Raises `AudioError` for a rate that is not positive.
    """
    if from_rate <= 0 or to_rate <= 0:
        raise AudioError(f"cannot resample from {from_rate} Hz to {to_rate} Hz: rates are positive")
    if from_rate == to_rate:
        return samples
    *leading, num_samples = samples.shape
    new_length = _ceil_div(num_samples * to_rate, from_rate)
    if samples.size == 0:
        return np.zeros((*leading, new_length), samples.dtype)

    # soxr rounds T * to / from to nearest. Zeros worth one more output sample keep the length from
    # falling short; soxr itself assumes silence after the end, so no sample changes by them.
    channels = samples.reshape(-1, num_samples)
    padded = np.pad(channels, ((0, 0), (0, _ceil_div(from_rate, to_rate))))
    converted = soxr.resample(padded.T, from_rate, to_rate, quality=_QUALITY).T
    return np.ascontiguousarray(converted[:, :new_length]).reshape(*leading, new_length)


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
