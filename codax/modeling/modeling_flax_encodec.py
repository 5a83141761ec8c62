"""EnCodec in Flax (Défossez et al. 2022, arXiv:2210.13438)."""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.core import Tracer
from transformers.utils import ModelOutput, logging

from codax.configuration.config_fields import DecodeChunks
from codax.configuration.configuration_encodec import EncodecArchitecture, EncodecConfig

from .chunking import is_traced
from .conv_padding import without_rest
from .devices import on_cpus, on_host
from .encodec_chunks import (
    decode_in_chunks,
    decode_in_groups,
    encode_in_chunks,
    encode_in_groups,
)
from .input_checks import (
    checked_audio,
    checked_codes,
    checked_counts,
    checked_frames,
    lengths_of_mask,
)
from .layers import FlaxLayers
from .pretrained_base import FlaxPreTrainedCodec
from .quantizer import FlaxEuclideanResidualVectorQuantizer
from .segments import cut_segments, overlap_add, segment_lengths
from .weight_table import WeightRule, encodec_weight_rules
from .windows import cropped

logger = logging.get_logger(__name__)

# A ModelOutput may leave fields out; those of a model's own outputs never are.
_UNSET: Any = None


@struct.dataclass
class FlaxEncodecEncoderOutput(ModelOutput):
    """What `FlaxEncodecModel.encode` gives. The first three fields are those of transformers.

    audio_codes: int32 [S, B, K, F], S segments; zeros where a clip has no such segment or frame
    audio_scales: float32 [S, B, 1], by which decoded segments are multiplied; None for models that
        do not normalise
    last_frame_pad_length: how many of the F frames of the last segment are no frames of the clip;
        an int, or int32 [B] where lengths differ, counting the frames of absent segments too
    num_samples: int32 [B], samples of each clip that are coded, with which `decode` is exact: its
        length; with the segmentation of transformers, the silence after it as well
    """

    audio_codes: jax.Array = _UNSET
    audio_scales: jax.Array | None = None
    last_frame_pad_length: Any = _UNSET
    num_samples: jax.Array = _UNSET


@struct.dataclass
class FlaxEncodecDecoderOutput(ModelOutput):
    """What `FlaxEncodecModel.decode` gives: audio_values float32 [B, C, T]."""

    audio_values: jax.Array = _UNSET


@struct.dataclass
class FlaxEncodecOutput(ModelOutput):
    """What calling a `FlaxEncodecModel` gives. Fields are those of transformers' `EncodecOutput`.

    audio_codes: int32 [S, B, K, F]
    audio_values: float32 [B, C, T]
    """

    audio_codes: jax.Array = _UNSET
    audio_values: jax.Array = _UNSET


class Encoded(NamedTuple):
    """Codes int32 [..., K, F] of segments, and their scales float32 [..., 1] or None."""

    codes: jax.Array
    scales: jax.Array | None


class FlaxEncodecModule(nn.Module):
    """The network: encoder, residual quantizer, decoder, and the segments around them.

    dtype: of the decoder's products; encode_dtype: of the encoder's. Parameters, the quantizer
    and all outputs are float32. precision: of float32 products (GPUs and TPUs round their factors
    to 10 or 7 bits of mantissa below HIGHEST, which changes codes).
    """

    architecture: EncodecArchitecture
    dtype: jnp.dtype = jnp.float32
    encode_dtype: jnp.dtype = jnp.float32
    precision: lax.Precision = lax.Precision.HIGHEST
    in_blocks: bool = False

    def setup(self):
        architecture = self.architecture
        self.encoder = FlaxLayers(
            architecture.encoder, self.encode_dtype, self.precision, in_blocks=self.in_blocks
        )
        self.quantizer = FlaxEuclideanResidualVectorQuantizer(
            architecture.num_quantizers,
            architecture.hidden_size,
            architecture.codebook_size,
            self.precision,
        )
        self.decoder = FlaxLayers(
            architecture.decoder, self.dtype, self.precision, in_blocks=self.in_blocks
        )

    def __call__(
        self, input_values, lengths=None, clip_lengths=None, num_quantizers: int | None = None
    ):
        """float [B, C, T] -> the codes [S, B, K, F] and the audio [B, C, T] decoded from them.

        lengths: as in `encode`; clip_lengths: int [B], from where on the audio is zero
        """
        encoded = self.encode(input_values, lengths, num_quantizers)
        length = input_values.shape[-1]
        frames = None
        if lengths is not None or len(encoded.codes) > 1:
            lengths = np.full(len(input_values), length) if lengths is None else lengths
            frames = self.frames_of(lengths, len(encoded.codes))
        audio = self.decode(encoded.codes, encoded.scales, frames, clip_lengths, length)
        return encoded, audio

    def encode(self, input_values, lengths=None, num_quantizers: int | None = None) -> Encoded:
        """Cut clips into segments and encode them.

        input_values: float [B, C, T]
        lengths: int [B], samples of each clip that there are; T for all where it is None
        """
        samples = jnp.swapaxes(input_values, 1, 2).astype(jnp.float32)
        segmenting = self.architecture.segmenting
        if segmenting is None or samples.shape[1] <= segmenting.stride:
            segments, lengths = samples[None], None if lengths is None else lengths[None]
        else:
            if lengths is None:
                lengths = jnp.full(len(samples), samples.shape[1])
            segments, lengths = cut_segments(samples, lengths, *segmenting)
        count = len(segments)
        lengths = None if lengths is None else _flat(lengths)
        encoded = self.encode_segments(_flat(segments), lengths, num_quantizers)
        return jax.tree.map(lambda array: _by_segment(array, count), encoded)

    def encode_segments(self, samples, lengths=None, num_quantizers: int | None = None) -> Encoded:
        """Encode segments of at most `lengths` int [N] samples: float [N, T, C] -> [N, K, F]."""
        architecture = self.architecture
        levels = architecture.num_quantizers if num_quantizers is None else num_quantizers
        samples = samples if lengths is None else without_rest(samples, lengths)
        scales = None
        if architecture.normalize:
            scales = volume_of(samples, lengths)
            samples = samples / scales[..., None]
        latents = self.encoder(samples, lengths=lengths).astype(jnp.float32)
        codes = self.quantizer(latents, levels)
        if lengths is not None:
            frames = -(-lengths // architecture.hop_length)
            codes = jnp.where(jnp.arange(codes.shape[-1]) < frames[:, None, None], codes, 0)
        return Encoded(codes, scales)

    def decode(
        self, codes, scales=None, num_frames=None, lengths=None, num_samples: int | None = None
    ):
        """Decode segments and put them together.

        codes: int32 [S, B, K, F]; scales: float32 [S, B, 1]
        num_frames: int [S, B], frames of each segment that there are; all where it is None
        lengths: int [B], samples from which on the audio of a clip is zero
        num_samples: crop the audio to this length
        -> float32 [B, C, T]; what lies beyond the frames of a clip is zero as well
        """
        architecture = self.architecture
        outer = codes.shape[:2]
        samples = self.decode_segments(
            _flat(codes),
            None if scales is None else _flat(scales),
            None if num_frames is None else _flat(num_frames),
        )
        samples = _by_segment(samples, len(codes))
        if architecture.segmenting is not None:
            if num_frames is None:
                num_frames = jnp.full(outer, codes.shape[-1])
            decoded = num_frames * architecture.hop_length
            audio = overlap_add(samples, decoded, architecture.segmenting.stride)
        elif num_frames is not None:
            audio = without_rest(samples[0], num_frames[0] * architecture.hop_length)
        else:
            audio = samples[0]
        audio = audio if lengths is None else without_rest(audio, lengths)
        return jnp.swapaxes(audio, 1, 2)[..., :num_samples]

    def encode_codes(self, samples, lengths=None, num_quantizers: int | None = None):
        """Of `encode_segments` the codes alone."""
        return self.encode_segments(samples, lengths, num_quantizers).codes

    def decode_no_audio(self, codes) -> None:
        """Nothing but the state of the LSTM, in the collection `CARRY`."""
        self.decode_segments(codes)

    def decode_segments(self, codes, scales=None, num_frames=None):
        """int32 [N, K, F], float32 [N, 1] -> float32 [N, T, C], `num_frames` int [N] of them."""
        latents = self.quantizer.dequantize(codes)
        samples = self.decoder(latents, lengths=num_frames).astype(jnp.float32)
        return samples if scales is None else samples * scales[..., None]

    def frames_of(self, lengths, num_segments: int):
        """Samples of clips, int [B] -> frames of their segments, int [num_segments, B]."""
        architecture = self.architecture
        if architecture.segmenting is None:
            lengths = lengths[None]
        else:
            lengths = segment_lengths(lengths, num_segments, *architecture.segmenting)
        return -(-lengths // architecture.hop_length)


def _flat(array):
    """[S, B, ...] -> [B * S, ...]: clip by clip, so that devices which divide B divide it too."""
    return jnp.swapaxes(array, 0, 1).reshape(-1, *array.shape[2:])


def _by_segment(array, count: int):
    """[B * S, ...] -> [S, B, ...], for S = `count`."""
    return jnp.swapaxes(array.reshape(-1, count, *array.shape[1:]), 0, 1)


def volume_of(segments, lengths):
    """float32 [B, T, C] -> [B, 1]: the root mean square of the mean over channels, plus 1e-8."""
    squares = jnp.mean(segments, axis=2) ** 2
    if lengths is None:
        power = jnp.mean(squares, axis=1)
    else:
        power = jnp.sum(squares, axis=1) / jnp.maximum(lengths, 1).astype(jnp.float32)
    return (jnp.sqrt(power) + 1e-8)[:, None]


class FlaxEncodecModel(FlaxPreTrainedCodec):
    """EnCodec with transformers' interface: audio [B, C, T] to codes [S, B, K, F] and back.

    S counts segments: one, the clip, but for the 48 kHz model, which codes segments of a second
    (`config.segmentation` tells how they are cut). A clip's codes and audio are what they would be
    alone, whatever else is in its batch and however far it is padded.

    Methods compile on the first use of each shape. They may be called inside a caller's own
    `jax.jit`, `jax.vmap` and `jax.grad`: give `params` there as an argument, so that they are not
    compiled in as constants. `model.module` is the Flax module itself, for `apply` and `bind`.

    dtype: of the decoder's products; all else is float32. jnp.bfloat16 is faster where the hardware
        has it, and less exact.
    encode_dtype: of the encoder's; anything but float32 changes codes.
    precision: of float32 products; the default reproduces the reference on every device.
    """

    config_class = EncodecConfig
    module_class = FlaxEncodecModule

    @staticmethod
    def weight_rules(config: EncodecConfig) -> tuple[WeightRule, ...]:
        return encodec_weight_rules(config.architecture)

    @classmethod
    def _correct_config(cls, config: EncodecConfig, keys: Collection[str], source: str) -> None:
        """One revision of facebook/encodec_32khz calls its identity shortcuts convolutions."""
        if config.use_conv_shortcut and not any(".shortcut." in key for key in keys):
            logger.warning(
                f"{source}: holds no shortcuts, so use_conv_shortcut=True is taken for False"
            )
            config.use_conv_shortcut = False

    def encode(
        self,
        input_values,
        padding_mask=None,
        bandwidth: float | None = None,
        return_dict: bool | None = None,
        params: dict | None = None,
        chunk_length_s: float | None = None,
    ) -> FlaxEncodecEncoderOutput | tuple:
        """Encode audio.

        input_values: float [B, C, T] at `config.sampling_rate`, C `config.audio_channels`
        padding_mask: [B, T] or [B, C, T], 1 where a clip is and 0 after it, as the feature
            extractor gives; None where all clips have T samples
        bandwidth: kbps, one of `config.target_bandwidths`; the lowest by default, as transformers

        return_dict: False gives (audio_codes, audio_scales, last_frame_pad_length), as transformers
        chunk_length_s: instead of the configuration's encode_chunk_length_s. Codes do not depend on
            it; they are on the host then, in NumPy arrays, and memory of the device does not depend
            on the length.

        Raises `ValueError` for another shape or dtype, a mask that is no such mask, or a bandwidth
        that the model does not have, listing those it has.
        """
        audio, coded, _ = self._checked_clips(input_values, padding_mask)
        levels = self.config.checked_quantizers(bandwidth)
        frames = self.config.encode_chunk_frames(chunk_length_s)
        encode, at_once = self._chunking(frames, audio.shape, (audio, coded, params))
        if encode is None:
            encoded = self._apply("encode", params, audio, coded, num_quantizers=levels)
        else:
            encoded = Encoded(*encode(self, audio, coded, levels, at_once, params))
            if frames is None:
                encoded = jax.tree.map(jnp.asarray, encoded)
        if coded is None:
            coded = np.full(len(audio), audio.shape[-1], np.int32)
        output = FlaxEncodecEncoderOutput(
            audio_codes=encoded.codes,
            audio_scales=encoded.scales,
            last_frame_pad_length=self._pad_frames(coded, encoded.codes.shape),
            num_samples=jnp.asarray(coded),
        )
        if self._wants_dict(return_dict):
            return output
        return output.audio_codes, output.audio_scales, output.last_frame_pad_length

    def decode(
        self,
        audio_codes,
        audio_scales=None,
        padding_mask=None,
        return_dict: bool | None = None,
        last_frame_pad_length: Any = 0,
        num_samples=None,
        num_frames=None,
        params: dict | None = None,
        chunk_length_s: float | None = None,
        overlap: float | None = None,
        chunk_mode: str | None = None,
    ) -> FlaxEncodecDecoderOutput:
        """Decode codes [S, B, K, F] with their scales, as `encode` gives them, to audio [B, C, T].

        Where the last segments end is taken from the first of these that is given:

        num_frames: int [S, B], frames of each segment that there are
        num_samples: int, or int [B]: the length of each clip; T is the largest
        padding_mask: that of the input; T is its length
        last_frame_pad_length: as `encode` gives; the audio covers all frames. It does not tell
            whether the segment before the last was whole, as `num_samples` does: that of a clip
            which ends in the first half of a frame after it was not.

        chunk_length_s, overlap, chunk_mode: instead of the configuration's decode_chunk_length_s,
            decode_overlap and decode_chunk_mode (see `CodecConfig`). Audio decoded in chunks is on
            the host, a NumPy array, and memory of the device does not depend on its length. The
            48 kHz model's segments are chunks by nature: as many as fit are decoded at a time, and
            overlap and mode change nothing.

        T is `config.decoded_length(F)` if none is. Audio beyond the length of a clip is zero.
        Raises `ValueError` for other shapes or dtypes, for codes outside the codebook, missing
        scales, and lengths that the codes do not cover. Traced codes cannot be checked: those
        outside give NaN.
        """
        codes = self._checked_codes(audio_codes)
        scales = self._checked_scales(audio_scales, codes.shape)
        frames = checked_frames(num_frames, codes.shape[:2], codes.shape[-1])
        lengths = length = None
        if frames is None:
            frames, lengths, length = self._extent(
                codes.shape, num_samples, padding_mask, last_frame_pad_length
            )
        chunks = self.config.decode_chunks(chunk_length_s, overlap, chunk_mode)
        pieces = self._in_chunks(codes, scales, frames, chunks, params)
        if pieces is None:
            arrays = (codes, scales, frames, lengths)
            axes = (1, 1, 1, 0)
            audio = self._apply("decode", params, *arrays, batch_axes=axes, num_samples=length)
        else:
            numpy: Any = jnp if is_traced(codes, frames, params) else np
            audio = numpy.concatenate([*pieces], axis=-1)
            counts = _of_only(frames) if self.config.segmenting is None else None
            audio = _cropped(audio, counts, lengths, length, self.config.hop_length)
            audio = jnp.asarray(audio) if chunks is None else audio
        return self._as(FlaxEncodecDecoderOutput(audio_values=audio), return_dict)

    def _in_chunks(
        self, codes: Any, scales: Any, frames: Any, chunks: DecodeChunks | None, params: Any
    ) -> Iterator[Any] | None:
        """What `decode` decodes in chunks, piece by piece; None where it decodes all at once.

        A caller's `jax.jit` cannot bring segments to the host; they stay one batch there.
        """
        config = self.config
        if config.codes_whole_clips:
            return None
        chunk_frames = None if chunks is None else chunks.frames
        if at_once := self._segments_at_once(chunk_frames, codes.shape[1], params):
            if len(codes) <= at_once or is_traced(codes, scales, frames, params):
                return None
            return decode_in_groups(self, codes, scales, frames, at_once, params)
        if chunks is None or chunks.frames >= codes.shape[-1]:
            return None
        return decode_in_chunks(self, codes[0], _of_only(frames), chunks, params)

    def decode_pieces(
        self,
        audio_codes: Any,
        chunks: DecodeChunks,
        audio_scales: Any = None,
        num_frames: Any = None,
        span: tuple[int, int] | None = None,
        params: dict | None = None,
    ) -> Iterator[np.ndarray]:
        """`decode` for audio that need not fit in memory: piece by piece, as it is made.

        audio_codes, audio_scales, num_frames: as `decode` takes them
        chunks: what `config.decode_chunks` gives
        span: the samples, from the first to before the second, that are wanted; no more than
            they depend on is decoded, but for the LSTM, which runs from the beginning. In "exact"
            chunks they are those of the whole.
        -> float32 [B, C, T], one after the other
        """
        codes = self._checked_codes(audio_codes)
        scales = self._checked_scales(audio_scales, codes.shape)
        frames = checked_frames(num_frames, codes.shape[:2], codes.shape[-1])
        if self.config.segmenting is not None:
            return self._pieces_of_segments(codes, scales, frames, chunks, span, params)
        if self.config.codes_whole_clips:
            axes = (1, 1, 1)
            audio = self._apply("decode", params, codes, scales, frames, batch_axes=axes)
            return _within(span, iter([on_host(audio)]), start=0)
        hop_length = self.config.hop_length
        start, stop = 0, codes.shape[-1]
        if span is not None:
            start, stop = span[0] // hop_length, min(-(-span[1] // hop_length), stop)
        pieces = decode_in_chunks(self, codes[0], _of_only(frames), chunks, params, (start, stop))
        return _within(span, pieces, start * hop_length)

    def _pieces_of_segments(
        self, codes: Any, scales: Any, frames: Any, chunks: DecodeChunks, span: Any, params: Any
    ) -> Iterator[np.ndarray]:
        """`decode_pieces` of a model that codes segments, those alone that reach into the span."""
        stride = self.config.segmenting.stride
        start = 0
        if span is not None:
            start = span[0] // stride
            codes, scales, frames = jax.tree.map(
                lambda array: array[: -(-span[1] // stride)], (codes, scales, frames)
            )
        batch = codes.shape[1]
        each = self.chunks_at_once(batch, params)
        at_once: Any = self._segments_at_once(chunks.frames, batch, params)
        at_once = min(at_once, -(-len(codes) // each) * each)
        pieces = decode_in_groups(self, codes, scales, frames, at_once, params, start)
        return _within(span, pieces, start * stride)

    def encode_segments(self, samples, lengths=None, num_quantizers: int | None = None) -> Encoded:
        """Encode segments as they are, for callers that cut clips themselves.

        samples: float [N, T, C], channel-last; lengths: int [N], how many samples each has
        num_quantizers: how many codebooks to use; all by default
        -> codes int32 [N, K, F] and scales float32 [N, 1], or None
        """
        return self._apply("encode_segments", None, samples, lengths, num_quantizers=num_quantizers)

    def decode_segments(self, codes, scales=None, num_frames=None) -> jax.Array:
        """The way back: int32 [N, K, F], float32 [N, 1], int [N] -> float32 [N, T, C]."""
        return self._apply("decode_segments", None, codes, scales, num_frames)

    def __call__(
        self,
        input_values,
        padding_mask=None,
        bandwidth: float | None = None,
        audio_codes=None,
        audio_scales=None,
        return_dict: bool | None = None,
        last_frame_pad_length: Any = 0,
        params: dict | None = None,
    ) -> FlaxEncodecOutput:
        """Encode and decode: [B, C, T] -> codes [S, B, K, F] and audio [B, C, T].

        Where `audio_codes` are given, they are decoded instead, as by `decode` with what else is
        given, and `input_values` tells no more than T.
        """
        if audio_codes is not None:
            decoded = self.decode(
                audio_codes,
                audio_scales,
                padding_mask,
                return_dict=True,
                last_frame_pad_length=last_frame_pad_length,
                params=params,
            )
            values = decoded.audio_values[..., : np.shape(input_values)[-1]]
            output = FlaxEncodecOutput(audio_codes=jnp.asarray(audio_codes), audio_values=values)
            return self._as(output, return_dict)
        if self.config.encode_chunk_length_s or self.config.decode_chunk_length_s:
            encoded: Any = self.encode(input_values, padding_mask, bandwidth, True, params)
            length = np.shape(input_values)[-1]
            mask = padding_mask
            if mask is None:
                mask = np.ones((len(input_values), length), np.int32)
            codes, scales = encoded.audio_codes, encoded.audio_scales
            values = self.decode(codes, scales, mask, True, params=params).audio_values
            output = FlaxEncodecOutput(audio_codes=codes, audio_values=values)
            return self._as(output, return_dict)
        audio, coded, lengths = self._checked_clips(input_values, padding_mask)
        levels = self.config.checked_quantizers(bandwidth)
        encoded, decoded = self._apply(
            "__call__", params, audio, coded, lengths, num_quantizers=levels
        )
        output = FlaxEncodecOutput(audio_codes=encoded.codes, audio_values=decoded)
        return self._as(output, return_dict)

    def _segments_at_once(self, frames: int | None, batch: int, params: Any) -> int | None:
        """How many segments are coded at once, where not all are: as many as `frames` frames hold.

        Several devices take as many each, of a batch of clips. On a CPU it is one where `frames` is
        None, since what lies between the layers stays in its cache then: 10 s take 0.5 instead of
        0.6 s to encode. None for models without segments.
        """
        segmenting = self.config.segmenting
        if segmenting is None:
            return None
        if frames is None and not on_cpus(self.params if params is None else params):
            return None
        of_a_chunk = max(1, round((frames or 0) * self.config.hop_length / segmenting.stride))
        return of_a_chunk * self.chunks_at_once(batch, params)

    def _chunking(self, frames: int | None, shape: tuple[int, ...], given: Any) -> tuple[Any, Any]:
        """(what encodes in chunks of `frames` frames or None for a whole clip, how much at once).

        A caller's `jax.jit` cannot bring segments to the host; they stay one batch there, and so
        does a clip with one scale for all of it.
        """
        (batch, _, length), (*_, params) = shape, given
        at_once = self._segments_at_once(frames, batch, params)
        if at_once:
            is_long = length > at_once * self.config.segmenting.stride
            return (encode_in_groups if is_long and not is_traced(given) else None), at_once
        whole = frames is None or self.config.codes_whole_clips
        if whole or frames * self.config.hop_length >= length:
            return None, None
        return encode_in_chunks, frames

    def _checked_clips(self, input_values, padding_mask) -> tuple[Any, Any, Any]:
        """(audio, samples of each clip that are coded, its length), int [B] or None for all of T.

        They differ where silence after the clip is coded with it.
        """
        channels = self.config.audio_channels
        hint = "the feature extractor repeats mono" if channels == 2 else "this model is mono"
        audio = checked_audio(input_values, channels, shortest=1, hint=hint)
        batch, _, length = audio.shape
        if padding_mask is None:
            return audio, None, None
        lengths = lengths_of_mask(padding_mask, batch, length)
        if not isinstance(lengths, Tracer) and (lengths == length).all():
            return audio, None, None
        covered = lengths
        if self.config.segmentation == "transformers" and self.config.segmenting is not None:
            numpy = jnp if isinstance(audio, jax.Array) else np
            is_beyond = np.arange(length) >= lengths[:, None, None]
            audio = numpy.where(is_beyond, numpy.float32(0), audio)
            covered = self.config.segmented_length(lengths).clip(0, length)
        return audio, covered, lengths

    def _checked_codes(self, audio_codes: Any) -> Any:
        config = self.config
        codes = checked_codes(
            audio_codes, "segments, batch", config.num_quantizers, config.codebook_size
        )
        if config.segmenting is None and len(codes) != 1:
            raise ValueError(
                f"audio_codes has {len(codes)} segments; this model codes clips in one"
            )
        return codes

    def _checked_scales(self, audio_scales, shape: tuple[int, ...]) -> Any:
        """[S, B, 1] from an array, or from transformers' list of S arrays [B, 1] or of S Nones."""
        given: Any = audio_scales
        if not isinstance(audio_scales, jax.Array | np.ndarray):
            given = [one for one in audio_scales or () if one is not None]
        if (len(given) > 0) != self.config.normalize:
            raise ValueError(
                "audio_scales are missing: this model normalises, and decodes with the scales that "
                "encode gives"
                if self.config.normalize
                else "audio_scales are given, but this model does not normalise"
            )
        if not len(given):
            return None
        if is_traced(given):
            scales = jnp.stack([jnp.asarray(one, jnp.float32) for one in given])
        elif isinstance(audio_scales, jax.Array | np.ndarray):
            scales = on_host(audio_scales).astype(np.float32)
        else:
            scales = np.stack([np.asarray(one, np.float32) for one in given])
        if scales.shape not in ((*shape[:2], 1), shape[:2]):
            raise ValueError(f"audio_scales has shape {scales.shape}; expected {(*shape[:2], 1)}")
        return scales.reshape(*shape[:2], 1)

    def _pad_frames(self, covered, shape: tuple[int, ...]) -> Any:
        """`FlaxEncodecEncoderOutput.last_frame_pad_length` of clips of int [B] samples."""
        count, _, _, size = shape
        frames = self.module.frames_of(covered, count)
        # Segments before the last may lack a frame as well; the count is of those after the last.
        num_segments = (frames > 0).sum(axis=0)
        is_last = np.arange(1, count + 1)[:, None] == num_segments
        missing = (count - num_segments) * size + (is_last * (size - frames)).sum(axis=0)
        if isinstance(missing, Tracer):
            return missing
        return int(missing[0]) if (missing == missing[0]).all() else missing.astype(np.int32)

    def _extent(
        self, shape, num_samples, padding_mask, last_frame_pad_length
    ) -> tuple[Any, Any, Any]:
        """(frames of the segments, int [S, B]; lengths of the clips, int [B]; the longest one).

        None stands for all frames, for lengths that the rest tells, for audio as long as it is.
        """
        count, batch, _, size = shape
        if num_samples is not None:
            covered = np.broadcast_to(checked_counts("num_samples", num_samples, batch), batch)
            lengths, length = covered, int(covered.max())
        elif padding_mask is not None:
            length = np.shape(padding_mask)[-1]
            lengths = lengths_of_mask(padding_mask, batch, length)
            covered = lengths
            if isinstance(lengths, Tracer) or (lengths < length).any():
                covered = self.config.segmented_length(lengths).clip(0, length)
        else:
            frames, length = self._extent_by_pad_length(shape, last_frame_pad_length)
            return frames, None, length
        frames = self.module.frames_of(covered, count)
        if isinstance(frames, Tracer):
            return frames, lengths, length
        self._require_frames(covered, frames, shape)
        if self.config.segmenting is None and (frames == size).all():
            frames = None
        return frames, None if (lengths == length).all() else lengths, length

    def _require_frames(self, covered, frames, shape) -> None:
        count, _, _, size = shape
        segmenting = self.config.segmenting
        stride = segmenting.stride if segmenting else covered.max()
        if covered.min() < 0 or frames.max() > size or covered.max() > count * stride:
            raise ValueError(
                f"the codes have {count} segments of {size} frames, which do not hold "
                f"{covered.min() if covered.min() < 0 else covered.max()} samples"
            )

    def _extent_by_pad_length(self, shape, pad_length) -> tuple[Any, Any]:
        count, batch, _, size = shape
        pad_length = checked_counts("last_frame_pad_length", pad_length, batch)
        if pad_length.min() < 0 or pad_length.max() >= count * size:
            raise ValueError(
                f"last_frame_pad_length={pad_length} must be from 0 to {count * size - 1}"
            )
        pads = np.broadcast_to(pad_length, batch)
        num_segments, last = count - pads // size, size - pads % size
        index = np.arange(count)[:, None]
        frames = np.where(index < num_segments - 1, size, np.where(index < num_segments, last, 0))
        length = None
        if pad_length.ndim == 0:
            segmenting = self.config.segmenting
            stride = segmenting.stride if segmenting else 0
            length = int((num_segments[0] - 1) * stride + last[0] * self.config.hop_length)
        if self.config.segmenting is None and not pad_length.any():
            return None, length
        return frames, length


def _of_only(frames: Any) -> Any:
    """Frames int [S, B] or None, of models with one segment -> int [B] or None."""
    return None if frames is None else frames[0]


def _within(
    span: tuple[int, int] | None, pieces: Iterator[np.ndarray], start: int
) -> Iterator[np.ndarray]:
    """Of pieces [B, C, n], the first of which begins with sample `start`, the span; or all."""
    return pieces if span is None else cropped(pieces, span[1] - span[0], skipped=span[0] - start)


def _cropped(audio, num_frames, lengths, length: int | None, hop_length: int) -> Any:
    """[B, C, T] with zeros beyond the frames and the lengths of clips, cropped to `length`."""
    numpy = np if isinstance(audio, np.ndarray) else jnp
    positions = numpy.arange(audio.shape[-1])
    for ends in (None if num_frames is None else num_frames * hop_length, lengths):
        if ends is not None:
            audio = numpy.where(positions < numpy.asarray(ends)[:, None, None], audio, 0)
    return audio[..., :length]
