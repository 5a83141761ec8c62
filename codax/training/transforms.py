"""What DAC's training does to every excerpt: EnCodec's does nothing.

Sources: descript-audiotools, `audiotools/data/transforms.py` and what these call in
`core/effects.py` and `core/dsp.py`; descript-audio-codec, `conf/base.yml`, for the values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from codax.feature_extraction import gain_to_loudness, limit_peak, measure_loudness

WINDOW_S = 0.032
"""The shortest STFT window of `ShiftPhase`, which is the next power of two samples."""


class Transform(Protocol):
    """Something done to an excerpt, by chance or not.

    samples: float32 [C, T] at `sampling_rate` Hz -> the same, in new memory or as they are
    generator: where all chance is to come from, so that an excerpt is the same every time
    """

    def __call__(
        self, samples: np.ndarray, sampling_rate: int, generator: np.random.Generator
    ) -> np.ndarray: ...


@dataclass(frozen=True)
class VolumeNorm:
    """Brings an excerpt to a loudness, all its channels alike; silence counts as -70 LUFS.

    loudness_db: LUFS, finite, or `ValueError` is raised

    Raises `AudioError` for more than five channels, or a rate of 3000 Hz or less.
    """

    loudness_db: float = -16.0

    def __post_init__(self):
        if not math.isfinite(self.loudness_db):
            raise ValueError(f"loudness_db={self.loudness_db} must be LUFS, a finite number")

    def __call__(
        self, samples: np.ndarray, sampling_rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        del generator
        gain = gain_to_loudness(measure_loudness(samples, sampling_rate), self.loudness_db)
        return samples * np.float32(gain)


@dataclass(frozen=True)
class RescaleAudio:
    """Turns an excerpt down until no sample exceeds `peak`, or leaves it as it is.

    One gain serves all channels; audiotools limits every channel by itself, which shifts the stereo
    balance and is the same for DAC's mono.

    peak: positive, or `ValueError` is raised
    """

    peak: float = 1.0

    def __post_init__(self):
        if not 0 < self.peak < math.inf:
            raise ValueError(f"peak={self.peak} must be a positive number")

    def __call__(
        self, samples: np.ndarray, sampling_rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        del sampling_rate, generator
        return limit_peak(samples, self.peak)


@dataclass(frozen=True)
class ShiftPhase:
    """Shifts the phase of all frequencies by one angle, drawn uniformly for each excerpt.

    low, high: radians, the range that it is drawn from; `ValueError` is raised where it is empty
    """

    low: float = -math.pi
    high: float = math.pi

    def __post_init__(self):
        if not -math.inf < self.low <= self.high < math.inf:
            raise ValueError(f"low={self.low}, high={self.high} must be radians, low <= high")

    def __call__(
        self, samples: np.ndarray, sampling_rate: int, generator: np.random.Generator
    ) -> np.ndarray:
        return shift_phase(samples, sampling_rate, generator.uniform(self.low, self.high))


DAC_TRANSFORMS: tuple[Transform, ...] = (VolumeNorm(), RescaleAudio(), ShiftPhase())
"""Of DAC's training, in their order."""


def transformed(
    samples: np.ndarray,
    sampling_rate: int,
    transforms: Sequence[Transform],
    generator: np.random.Generator,
) -> np.ndarray:
    """An excerpt float32 [C, T] at `sampling_rate` Hz after all transforms, one after the other."""
    for transform in transforms:
        samples = transform(samples, sampling_rate, generator)
    return samples


def shift_phase(samples: np.ndarray, sampling_rate: int, angle: float) -> np.ndarray:
    """Turn every bin of the short-time spectrum by an angle.

    samples: float32 [C, T] at `sampling_rate` Hz -> the same; angle: radians

    The STFT is audiotools': periodic Hann windows of 32 ms or more, a power of two samples, with a
    hop of a quarter, centred, reflected at the ends. A bin at 0 Hz or at half the rate is real, so
    that of it only the cosine is left.

    Source: descript-audiotools, `DSPMixin.shift_phase` between `stft` and `istft`.
    """
    from scipy.fft import irfft, rfft  # which keep float32

    window_length = 2 ** math.ceil(math.log2(WINDOW_S * sampling_rate))
    hop = window_length // 4
    phase = 2 * np.pi * np.arange(window_length) / window_length
    window = (0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    half = window_length // 2
    padded = np.pad(samples, ((0, 0), (half, half)), "reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, window_length, axis=1)[:, ::hop]
    turned = np.asarray(rfft(frames * window)) * np.complex64(np.exp(1j * angle))
    added = _overlap_added(np.asarray(irfft(turned, window_length)) * window, hop)
    weight = _overlap_added(np.broadcast_to(window**2, (1, *frames.shape[1:])), hop)
    # Frames reach beyond the last sample, even where the length is no whole number of hops: the
    # last one is centred at T - T % hop, less than half a window before it.
    inside = slice(half, half + samples.shape[1])
    return added[:, inside] / weight[:, inside]


def _overlap_added(frames: np.ndarray, hop: int) -> np.ndarray:
    """float32 [C, F, W] -> [C, (F - 1) * hop + W], where `hop` divides W.

    A frame's quarters are added one after the other, each to all frames at once.
    """
    channels, num_frames, length = frames.shape
    pieces = frames.reshape(channels, num_frames, length // hop, hop)
    blocks = np.zeros((channels, num_frames + length // hop - 1, hop), frames.dtype)
    for index in range(length // hop):
        blocks[:, index : index + num_frames] += pieces[:, :, index]
    return blocks.reshape(channels, -1)
