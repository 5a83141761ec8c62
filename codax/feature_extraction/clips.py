"""Clips as users bring them, in the form, at the rate and loudness that a model takes."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from transformers.feature_extraction_utils import BatchFeature
from transformers.utils.generic import PaddingStrategy, TensorType

from codax.errors import AudioError

from .loudness import MIN_LOUDNESS_LUFS, gain_to_loudness, limit_peak, measure_loudness
from .resampling import resample
from .sample_types import as_float_audio

_MAX_INTERLEAVED_CHANNELS = 8  # [T, C] with so few columns is taken for channels last


def as_clips(
    raw_audio: ArrayLike | Sequence[ArrayLike], channels: int | None = None
) -> list[np.ndarray]:
    """Check and convert: one clip or a list of clips -> float32 [C, T] each.

    channels: that the model takes; a clip of so many rows is channels first, however short it is
    """
    if not isinstance(raw_audio, list | tuple):
        return [_as_clip(raw_audio, "raw_audio", channels)]
    if not raw_audio:
        raise AudioError("raw_audio is empty: there is no clip in it")
    first = raw_audio[0]
    if not isinstance(first, list | tuple) and getattr(first, "ndim", 0) == 0:
        return [_as_clip(raw_audio, "raw_audio", channels)]
    return [_as_clip(clip, f"raw_audio[{index}]", channels) for index, clip in enumerate(raw_audio)]


def _as_clip(audio: Any, name: str, channels: int | None) -> np.ndarray:
    """Convert one clip [T] or [C, T] -> float32 [C, T]."""
    samples = as_float_audio(audio, name)
    if samples.ndim == 1:
        return samples[np.newaxis]
    if samples.ndim != 2 or len(samples) == 0:
        raise AudioError(
            f"{name}: shape {samples.shape} is not one clip, [num_samples] or "
            "[channels, num_samples]; several clips go into a list"
        )
    num_rows, num_columns = samples.shape
    is_narrow = 1 <= num_columns <= _MAX_INTERLEAVED_CHANNELS and num_rows > num_columns
    if is_narrow and num_rows != channels:
        raise AudioError(
            f"{name}: shape {samples.shape} looks like channels last; "
            f"transpose it (audio.T) to [channels, num_samples]: {samples.T.shape}"
        )
    return samples


def at_rate(
    clips: list[np.ndarray], sampling_rate: int | None, model_rate: int, may_resample: bool
) -> list[np.ndarray]:
    """Clips [C, T] at the rate of the model, in Hz; `sampling_rate` None says that they are.

    Raises `AudioError` for another rate unless they may be resampled.
    """
    if sampling_rate is None or sampling_rate == model_rate:
        return clips
    if not may_resample:
        raise AudioError(
            f"the audio is sampled at {sampling_rate} Hz, but the model takes "
            f"{model_rate} Hz; resample=True converts it"
        )
    return [resample(clip, sampling_rate, model_rate) for clip in clips]


def at_loudness(clip: np.ndarray, sampling_rate: int, target_lufs: float) -> np.ndarray:
    """A clip [C, T] brought to a loudness, its channels together, with peaks of at most 1."""
    current_lufs = measure_loudness(clip, sampling_rate)
    return limit_peak(clip * gain_to_loudness(current_lufs, target_lufs))


def with_channel_counts(
    features: BatchFeature, clips: list[np.ndarray], return_tensors: str | TensorType | None
) -> BatchFeature:
    """Add `num_channels` where clips are not all mono.

    A new BatchFeature, since transformers leaves an attribute `input_values` on its own that is a
    NumPy array whatever `return_tensors` says; here `inputs.input_values` is the item.
    """
    items = dict(features)
    if any(len(clip) > 1 for clip in clips):
        items["num_channels"] = np.array([len(clip) for clip in clips], dtype=np.int32)
    return BatchFeature(items, tensor_type=return_tensors)


def padding_strategy(padding: bool | str | PaddingStrategy | None) -> PaddingStrategy:
    """What `padding` asks for; None and True pad to the longest."""
    if padding is None or padding is True:
        return PaddingStrategy.LONGEST
    return PaddingStrategy(padding) if padding else PaddingStrategy.DO_NOT_PAD


def positive_integer(name: str, value: Any) -> int:
    """`value` as an int; `AudioError` naming it unless it is a positive integer."""
    try:
        integer = operator.index(value)
    except TypeError:
        integer = 0
    if integer < 1 or isinstance(value, bool):
        raise AudioError(f"{name} is {value!r}; it must be a positive integer")
    return integer


def require_segments(
    chunk_length_s: float | None, overlap: float | None, sampling_rate: int
) -> None:
    """Raise `AudioError` for segments shorter than a sample, or that overlap by all of it."""
    is_given = chunk_length_s is not None
    if is_given and not (_is_number(chunk_length_s) and chunk_length_s * sampling_rate >= 1):
        raise AudioError(f"chunk_length_s is {chunk_length_s!r}; it must be a sample or longer")
    if overlap is not None and not (_is_number(overlap) and 0 <= overlap < 1):
        raise AudioError(f"overlap is {overlap!r}; it must be a number from 0 to less than 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def loudness_target(loudness: float | None) -> float | None:
    """A target in LUFS as it is; `AudioError` unless a signal can have it."""
    if loudness is not None and not MIN_LOUDNESS_LUFS <= loudness <= 0:
        raise AudioError(
            f"loudness is {loudness}; a target lies from {MIN_LOUDNESS_LUFS:.0f} to 0 LUFS"
        )
    return loudness
