"""Audio in, DAC model inputs out."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from transformers.feature_extraction_utils import BatchFeature
from transformers.models.dac.feature_extraction_dac import (
    DacFeatureExtractor as TransformersDacFeatureExtractor,
)
from transformers.utils.generic import PaddingStrategy, TensorType

from codax.errors import AudioError

from .clips import (
    as_clips,
    at_loudness,
    at_rate,
    loudness_target,
    padding_strategy,
    positive_integer,
    with_channel_counts,
)
from .saved_extractor import SavedExtractor


class _CodecConfig(Protocol):
    """What the extractor takes from a model's configuration, such as a `DacConfig`."""

    @property
    def sampling_rate(self) -> int: ...
    @property
    def hop_length(self) -> int: ...


class DacFeatureExtractor(SavedExtractor, TransformersDacFeatureExtractor):
    """transformers' DAC feature extractor for any audio.

    For mono float clips it gives what transformers gives. It also takes

    - stereo and more: a clip [C, T] becomes C mono items, in order, because DAC codes each channel
      by itself. If any clip has more than one channel, the output has one more key, `num_channels`
      int32 [number of clips]; `np.split(codes, np.cumsum(num_channels)[:-1])` gives codes by clip.
    - PCM as int8, int16, int32 or uint8, divided by its full scale.
    - clips without samples: padding only, with a mask of zeros, so that one empty file does not
      stop a corpus; a single hop if all are empty. With `padding=False` they stay empty.
    - `truncation` together with any `padding`: clips are cut first, then padded.

    and, where asked to, converts audio of another sampling rate (`resample=True`) and brings clips
    to one loudness (`loudness=-16.0`, in LUFS, all channels of a clip together, after which peaks
    are limited to 1).

    `feature_size` is the number of channels that the model codes at once: 1. Raises `AudioError`
    for arguments out of range, naming them.
    """

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 16000,
        padding_value: float = 0.0,
        hop_length: int = 512,
        resample: bool = False,
        loudness: float | None = None,
        **kwargs: Any,
    ):
        if feature_size != 1:
            raise AudioError(
                f"feature_size is {feature_size}, but DAC codes one channel at a time: it must be 1"
            )
        super().__init__(
            feature_size=1,
            sampling_rate=positive_integer("sampling_rate", sampling_rate),
            padding_value=padding_value,
            hop_length=positive_integer("hop_length", hop_length),
            **kwargs,
        )
        self.resample = resample
        self.loudness = loudness_target(loudness)

    @classmethod
    def from_config(cls, config: _CodecConfig, **kwargs: Any) -> "DacFeatureExtractor":
        """Make the extractor that belongs to a model.

        A model's hop length follows from its ratios and so is right even where the repository's
        `preprocessor_config.json` is not: one revision of an official repository said 512 for 320.
        """
        rates: dict[str, Any] = {
            "sampling_rate": config.sampling_rate,
            "hop_length": config.hop_length,
        }
        return cls(**(rates | kwargs))

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any):
        """As transformers', which drops keyword arguments that the file at hand does not hold.

        Official files hold neither `resample` nor `loudness`, so both are put in first.
        """
        options = {"resample": False, "loudness": None}
        return super().from_dict(options | feature_extractor_dict, **kwargs)

    def __call__(
        self,
        raw_audio: ArrayLike | Sequence[ArrayLike],
        padding: bool | str | PaddingStrategy | None = None,
        truncation: bool | None = False,
        max_length: int | None = None,
        return_tensors: str | TensorType | None = None,
        sampling_rate: int | None = None,
        resample: bool | None = None,
        loudness: float | None = None,
    ) -> BatchFeature:
        """Turn one clip, or a list of clips, into model inputs.

        raw_audio: a clip is [T] or [C, T], an array or nested lists; a list of clips may mix
            lengths and channel counts.
        padding: `None`, `True` or `"longest"` pads with zeros to the longest clip, `"max_length"`
            to `max_length`, both rounded up to whole hops; `False` does not pad.
        truncation: cut clips to `max_length` samples, rounded up to whole hops.
        return_tensors: `"np"`, `"pt"` or `"jax"`; `None` gives a list of arrays.
        sampling_rate: of the audio, in Hz.
        resample, loudness: override what the extractor was constructed with; `None` does not.

        Returns `input_values` float32 [B, 1, T] and, when padded, `padding_mask` int32 [B, T],
        which is 1 where there is audio. B counts the channels of all clips.

        Raises `AudioError` for an empty list, for NaN or infinity (naming clip and index), for
        shapes and types that are not audio, for channels last, for a wrong sampling rate without
        `resample`, and where `max_length` is missing or leaves lengths that differ.
        """
        may_resample = self.resample if resample is None else resample
        target_lufs = self.loudness if loudness is None else loudness_target(loudness)

        clips = at_rate(as_clips(raw_audio), sampling_rate, self.sampling_rate, may_resample)
        if target_lufs is not None:
            clips = [at_loudness(clip, self.sampling_rate, target_lufs) for clip in clips]
        items = [channel for clip in clips for channel in clip]
        items, padding_arguments = self._fit_lengths(items, padding, truncation, max_length)
        features = super().__call__(
            items,
            **padding_arguments,
            return_tensors=return_tensors,
            sampling_rate=None if sampling_rate is None else self.sampling_rate,
        )
        return with_channel_counts(features, clips, return_tensors)

    def _fit_lengths(
        self,
        items: list[np.ndarray],
        padding: bool | str | PaddingStrategy | None,
        truncation: bool | None,
        max_length: int | None,
    ) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Cut the items [T], and say how transformers is to pad them."""
        strategy = padding_strategy(padding)
        if truncation or strategy is PaddingStrategy.MAX_LENGTH:
            limit = self._whole_hops(positive_integer("max_length", max_length))
            if truncation:
                items = [item[:limit] for item in items]
            if strategy is PaddingStrategy.MAX_LENGTH:
                _refuse_ragged(items, limit)
                return items, {"padding": strategy, "max_length": limit}
        if strategy is PaddingStrategy.DO_NOT_PAD:
            return items, {"padding": False}
        if not any(item.size for item in items):
            return items, {"padding": PaddingStrategy.MAX_LENGTH, "max_length": self.hop_length}
        return items, {"padding": strategy}

    def _whole_hops(self, num_samples: int) -> int:
        return -(-num_samples // self.hop_length) * self.hop_length


def _refuse_ragged(items: list[np.ndarray], max_length: int) -> None:
    """transformers leaves clips above max_length as long as they are, and cannot stack those."""
    lengths = {max(len(item), max_length) for item in items}
    if len(lengths) > 1:
        raise AudioError(
            f"clips of up to {max(lengths)} samples exceed the {max_length} of padding="
            "'max_length'; use truncation=True or padding='longest'"
        )
