"""Sampling-rate conversion."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from codax.errors import AudioError

_QUALITY = "HQ"  # 20-bit precision: errors near -120 dB, below the noise floor of 16-bit audio
_AT_ONCE = 1 << 16  # samples


class Resampler:
    """Sampling-rate conversion of audio that comes in pieces, with soxr.

    Its output is that of `resample` for the whole, of ceil(T * to_rate / from_rate) samples.

    Raises `AudioError` for a rate that is not positive.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int, dtype: Any = np.float32):
        if from_rate <= 0 or to_rate <= 0:
            raise AudioError(
                f"cannot resample from {from_rate} Hz to {to_rate} Hz: rates are positive"
            )
        self._rates = from_rate, to_rate
        self._nothing = np.zeros((channels, 0), dtype)
        self._received = self._given = 0
        self._stream = None
        if from_rate != to_rate:
            self._stream = _soxr().ResampleStream(
                from_rate, to_rate, channels, dtype=np.dtype(dtype).name, quality=_QUALITY
            )

    def push(self, samples: np.ndarray) -> np.ndarray:
        """float [C, n] at `from_rate` Hz -> what can be given out by now, [C, m] at `to_rate`."""
        self._received += samples.shape[1]
        return self._converted(samples, is_last=False)

    def flush(self) -> np.ndarray:
        """The rest, [C, m], once the audio has ended."""
        if self._stream is None or not self._received:
            return self._nothing
        from_rate, to_rate = self._rates
        # soxr rounds the length to nearest. Zeros worth one more output sample keep it from falling
        # short; soxr itself assumes silence after the end, so no sample changes by them.
        silence = np.zeros((len(self._nothing), _ceil_div(from_rate, to_rate)))
        rest = self._converted(silence.astype(self._nothing.dtype), is_last=True)
        length = _ceil_div(self._received * to_rate, from_rate)
        return rest[:, : max(length - self._given + rest.shape[1], 0)]

    def run(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """All of a clip, piece by piece."""
        yield from map(self.push, pieces)
        yield self.flush()

    def _converted(self, samples: np.ndarray, is_last: bool) -> np.ndarray:
        if self._stream is None:
            return samples
        # As [n, C] in memory, which is what soxr reads.
        converted = self._stream.resample_chunk(np.ascontiguousarray(samples.T), last=is_last)
        self._given += len(converted)
        return np.ascontiguousarray(converted.reshape(-1, len(self._nothing)).T)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Convert samples from one sampling rate to another with soxr.

    samples: float32 or float64 [..., T] at `from_rate` Hz -> the same type [..., T'] at `to_rate`
    Hz, where T' is exactly ceil(T * to_rate / from_rate). Equal rates return `samples` itself.

    Raises `AudioError` for a rate that is not positive.
    """
    *leading, num_samples = samples.shape
    channels = samples.reshape(math.prod(leading), num_samples)
    resampler = Resampler(from_rate, to_rate, max(len(channels), 1), samples.dtype)
    if from_rate == to_rate:
        return samples
    if samples.size == 0:
        return np.zeros((*leading, _ceil_div(num_samples * to_rate, from_rate)), samples.dtype)
    pieces = np.split(channels, range(_AT_ONCE, num_samples, _AT_ONCE), axis=1)
    return np.concatenate([*resampler.run(pieces)], axis=1).reshape(*leading, -1)


def _soxr() -> Any:
    """The package; a model's remote code does without, unless it is to resample."""
    try:
        import soxr
    except ImportError as error:
        raise ImportError(
            "another sampling rate needs the package soxr: pip install soxr"
        ) from error
    return soxr


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
