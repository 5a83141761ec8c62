"""Audio in, EnCodec model inputs out."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from transformers.feature_extraction_utils import BatchFeature
from transformers.models.encodec.feature_extraction_encodec import (
    EncodecFeatureExtractor as TransformersEncodecFeatureExtractor,
)
from transformers.utils import logging
from transformers.utils.generic import PaddingStrategy, TensorType

from codax.errors import AudioError

from .clips import (
    as_clips,
    at_loudness,
    at_rate,
    loudness_target,
    padding_strategy,
    positive_integer,
    require_segments,
    with_channel_counts,
)
from .saved_extractor import SavedExtractor

logger = logging.get_logger(__name__)


class _CodecConfig(Protocol):
    """What the extractor takes from a model's configuration, such as an `EncodecConfig`."""

    @property
    def audio_channels(self) -> int: ...
    @property
    def sampling_rate(self) -> int: ...
    @property
    def chunk_length_s(self) -> float | None: ...
    @property
    def overlap(self) -> float | None: ...


class EncodecFeatureExtractor(SavedExtractor, TransformersEncodecFeatureExtractor):
    """transformers' EnCodec feature extractor for any audio.

    For float clips with as many channels as the model codes it gives what transformers gives. It
    also takes

    - for a mono model, stereo and more: a clip [C, T] becomes C mono items, in order. If any clip
      has more than one channel, the output has one more key, `num_channels` int32 [number of
      clips]; `np.split(codes[0], np.cumsum(num_channels)[:-1])` gives codes by clip.
    - PCM as int8, int16, int32 or uint8, divided by its full scale.
    - clips without samples: padding only, with a mask of zeros.
    - `truncation` together with any `padding`: clips are cut first, then padded.

    and, where asked to, converts audio of another sampling rate (`resample=True`), brings clips to
    one loudness (`loudness`, in LUFS), and mixes channels (`mix_channels=True`) as the authors'
    package does: to mono by their mean, mono to stereo by repetition.

    `feature_size` is the number of channels that the model codes at once. Raises `AudioError` for
    arguments out of range, naming them.
    """

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 24000,
        padding_value: float = 0.0,
        chunk_length_s: float | None = None,
        overlap: float | None = None,
        resample: bool = False,
        loudness: float | None = None,
        mix_channels: bool = False,
        **kwargs: Any,
    ):
        super().__init__(
            feature_size=positive_integer("feature_size", feature_size),
            sampling_rate=positive_integer("sampling_rate", sampling_rate),
            padding_value=padding_value,
            chunk_length_s=chunk_length_s,  # pyright: ignore[reportArgumentType]
            overlap=overlap,  # pyright: ignore[reportArgumentType]
            **kwargs,
        )
        require_segments(chunk_length_s, overlap, sampling_rate)
        self.resample = resample
        self.loudness = loudness_target(loudness)
        self.mix_channels = mix_channels

    @classmethod
    def from_config(cls, config: _CodecConfig, **kwargs: Any) -> "EncodecFeatureExtractor":
        """Make the extractor that belongs to a model."""
        fields: dict[str, Any] = {
            "feature_size": config.audio_channels,
            "sampling_rate": config.sampling_rate,
            "chunk_length_s": config.chunk_length_s,
            "overlap": config.overlap,
        }
        return cls(**(fields | kwargs))

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any):
        """As transformers', which drops keyword arguments that the file at hand does not hold.

        Official files hold none of the added fields, so they are put in first.
        """
        options = {"resample": False, "loudness": None, "mix_channels": False}
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
        mix_channels: bool | None = None,
    ) -> BatchFeature:
        """Turn one clip, or a list of clips, into model inputs.

        raw_audio: a clip is [T] or [C, T], an array or nested lists; a list of clips may mix
            lengths.
        padding: `None`, `True` or `"longest"` pads with zeros to the longest clip, or where the
            model codes segments to the next length that whole segments make; `"max_length"` to
            `max_length`; `False` does not pad.
        truncation: cut clips to `max_length` samples.
        return_tensors: `"np"`, `"pt"` or `"jax"`; `None` gives a list of arrays.
        sampling_rate: of the audio, in Hz.
        resample, loudness, mix_channels: override what the extractor was constructed with; `None`
            does not.

        Returns `input_values` float32 [B, feature_size, T] and, when padded, `padding_mask` int32
        [B, T], which is 1 where there is audio.

        Raises `AudioError` for an empty list, for NaN or infinity (naming clip and index), for
        shapes and types that are not audio, for channels last, for a wrong sampling rate without
        `resample`, for a number of channels that the model does not take without `mix_channels`,
        and where `max_length` is missing or a clip is longer.
        """
        if sampling_rate is None:
            logger.warning(
                f"sampling_rate is not given: the audio is taken to be at {self.sampling_rate} Hz"
            )
        may_resample = self.resample if resample is None else resample
        target_lufs = self.loudness if loudness is None else loudness_target(loudness)
        may_mix = self.mix_channels if mix_channels is None else mix_channels

        clips = at_rate(
            as_clips(raw_audio, channels=self.feature_size if self.feature_size > 1 else None),
            sampling_rate,
            self.sampling_rate,
            may_resample,
        )
        if target_lufs is not None:
            clips = [at_loudness(clip, self.sampling_rate, target_lufs) for clip in clips]
        if may_mix:
            clips = [mix(clip, self.feature_size) for clip in clips]
        items = [item for index, clip in enumerate(clips) for item in self._items(clip, index)]
        strategy = padding_strategy(padding)
        if truncation:
            limit = positive_integer("max_length", max_length)
            items = [item[:, :limit] for item in items]
        features: dict[str, Any] = {"input_values": items}
        if strategy is not PaddingStrategy.DO_NOT_PAD:
            features = self._padded(items, self._target_length(items, strategy, max_length))
        if self.feature_size == 1:
            return with_channel_counts(BatchFeature(features), clips, return_tensors)
        return BatchFeature(features, tensor_type=return_tensors)

    def _items(self, clip: np.ndarray, index: int) -> list[np.ndarray]:
        """A clip [C, T] as what the model codes at once: [feature_size, T] each."""
        if self.feature_size == 1:
            return [channel[None] for channel in clip]
        if len(clip) != self.feature_size:
            way_out = "; mix_channels=True converts it" if len(clip) == 1 else ""
            raise AudioError(
                f"raw_audio[{index}] has {len(clip)} channels, but the model takes "
                f"{self.feature_size}{way_out}"
            )
        return [clip]

    def _target_length(
        self, items: list[np.ndarray], strategy: PaddingStrategy, max_length: int | None
    ) -> int:
        longest = max(1, *(item.shape[1] for item in items))
        if strategy is PaddingStrategy.MAX_LENGTH:
            limit = positive_integer("max_length", max_length)
            if longest > limit:
                raise AudioError(
                    f"clips of up to {longest} samples exceed the {limit} of padding="
                    "'max_length'; use truncation=True or padding='longest'"
                )
            return limit
        if self.chunk_length is None or self.chunk_stride is None:
            return longest
        return (-(-longest // self.chunk_stride) - 1) * self.chunk_stride + self.chunk_length

    def _padded(self, items: list[np.ndarray], length: int) -> dict[str, Any]:
        is_left = self.padding_side == "left"

        def pad(array: np.ndarray, value: float) -> np.ndarray:
            missing = length - array.shape[-1]
            widths = [(0, 0)] * (array.ndim - 1) + [(missing, 0) if is_left else (0, missing)]
            return np.pad(array, widths, constant_values=value)

        mask = np.stack([pad(np.ones(item.shape[1], np.int32), 0) for item in items])
        padded = [pad(item, self.padding_value) for item in items]
        return {"input_values": padded, "padding_mask": mask}


def mix(clip: np.ndarray, channels: int) -> np.ndarray:
    """A clip [C, T] with another number of channels: to mono by the mean, mono by repetition.

    Source: facebookresearch/encodec, utils.py, `convert_audio`. Raises `AudioError` for any other
    conversion.
    """
    if len(clip) == channels:
        return clip
    if channels == 1:
        return clip.mean(axis=0, keepdims=True)
    if len(clip) == 1:
        return np.repeat(clip, channels, axis=0)
    raise AudioError(f"{len(clip)} channels cannot be mixed to {channels}, only mono or to mono")
