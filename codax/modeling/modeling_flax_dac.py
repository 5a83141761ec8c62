"""DAC in Flax: the descript audio codec (Kumar et al. 2023, arXiv:2306.06546)."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from transformers.utils import ModelOutput

from codax.configuration.config_fields import DecodeChunks
from codax.configuration.configuration_dac import DacArchitecture, DacConfig
from codax.configuration.conv_geometry import output_length

from .chunking import Chunking, is_traced, take_counts, take_spans
from .conv_padding import without_rest
from .devices import on_host
from .input_checks import checked_audio, checked_codes, checked_frames, lengths_of_mask
from .layers import FlaxLayers
from .pretrained_base import FlaxPreTrainedCodec
from .quantizer import FlaxResidualVectorQuantizer, mean_square
from .weight_table import WeightRule, dac_weight_rules
from .windows import cropped, joined

# A ModelOutput may leave fields out; those of a model's own outputs never are.
_UNSET: Any = None


@struct.dataclass
class FlaxDacEncoderOutput(ModelOutput):
    """What `FlaxDacModel.encode` gives. Fields are those of transformers' `DacEncoderOutput`.

    loss: float32 scalar, commitment and codebook loss weighted as the configuration says
    quantized_representation: float32 [B, D, F]
    audio_codes: int32 [B, K, F]
    projected_latents: float32 [B, K * d, F], the encoder's output as each codebook saw it
    """

    loss: jax.Array = _UNSET
    quantized_representation: jax.Array = _UNSET
    audio_codes: jax.Array = _UNSET
    projected_latents: jax.Array = _UNSET


@struct.dataclass
class FlaxDacDecoderOutput(ModelOutput):
    """What `FlaxDacModel.decode` gives: audio_values float32 [B, T]."""

    audio_values: jax.Array = _UNSET


@struct.dataclass
class FlaxDacOutput(ModelOutput):
    """What calling a `FlaxDacModel` gives. Fields are those of transformers' `DacOutput`.

    audio_values: float32 [B, T]; the others as in `FlaxDacEncoderOutput`
    """

    loss: jax.Array = _UNSET
    audio_values: jax.Array = _UNSET
    quantized_representation: jax.Array = _UNSET
    audio_codes: jax.Array = _UNSET
    projected_latents: jax.Array = _UNSET


class FlaxDacModule(nn.Module):
    """The network: encoder, residual quantizer, decoder.

    dtype: of the decoder's products; encode_dtype: of the encoder's. Parameters, the quantizer
    and all outputs are float32. precision: of float32 products (GPUs and TPUs round their factors
    to 10 or 7 bits of mantissa below HIGHEST, which changes codes).
    """

    architecture: DacArchitecture
    dtype: jnp.dtype = jnp.float32
    encode_dtype: jnp.dtype = jnp.float32
    precision: lax.Precision = lax.Precision.HIGHEST
    in_blocks: bool = False

    def setup(self):
        architecture = self.architecture
        self.encoder = FlaxLayers(
            architecture.encoder, self.encode_dtype, self.precision, in_blocks=self.in_blocks
        )
        self.quantizer = FlaxResidualVectorQuantizer(
            architecture.n_codebooks,
            architecture.hidden_size,
            architecture.codebook_size,
            architecture.codebook_dim,
            self.precision,
        )
        self.decoder = FlaxLayers(
            architecture.decoder, self.dtype, self.precision, in_blocks=self.in_blocks
        )

    def __call__(self, input_values, n_quantizers: int | None = None) -> FlaxDacOutput:
        """input_values float [B, 1, T] -> the codes and the audio decoded from them, at most T."""
        encoded = self.encode(input_values, n_quantizers=n_quantizers)
        decoded = self.decode(encoded.quantized_representation)
        audio_values = decoded.audio_values[:, : input_values.shape[-1]]
        return FlaxDacOutput(audio_values=audio_values, **encoded)

    def encode(
        self, input_values, lengths=None, n_quantizers: int | None = None, padded: bool = True
    ) -> FlaxDacEncoderOutput:
        """input_values float [B, 1, T] -> codes [B, n_quantizers, F] and what leads to them.

        lengths: int [B], samples of clips that are shorter than T, a multiple of the hop. Each
        comes out as it would alone, filled with silence to whole frames; what lies beyond is zero.
        padded: False leaves out the zero padding of every convolution, for windows of audio that
        bring their own context.
        """
        samples = jnp.swapaxes(input_values, 1, 2)
        num_frames = None
        if lengths is not None:
            samples = without_rest(samples, lengths)
            num_frames = -(-lengths // self.architecture.hop_length)
            lengths = num_frames * self.architecture.hop_length
        latents = self.encoder(samples, padded, lengths).astype(jnp.float32)
        levels = self.architecture.n_codebooks if n_quantizers is None else n_quantizers
        quantized = self.quantizer(latents, levels, num_frames)
        loss = (
            self.architecture.commitment_loss_weight * quantized.commitment_loss
            + self.architecture.codebook_loss_weight * quantized.codebook_loss
        )
        return FlaxDacEncoderOutput(
            loss=loss,
            quantized_representation=jnp.swapaxes(quantized.quantized, 1, 2),
            audio_codes=quantized.codes,
            projected_latents=jnp.swapaxes(quantized.projected_latents, 1, 2),
        )

    def encode_codes(self, input_values, lengths=None, n_quantizers: int | None = None):
        """Of `encode` the codes alone."""
        return self.encode(input_values, lengths, n_quantizers).audio_codes

    def decode(
        self,
        quantized_representation: Any = None,
        audio_codes: Any = None,
        num_frames: Any = None,
        padded: bool = True,
    ) -> FlaxDacDecoderOutput:
        """quantized_representation [B, D, F] or audio_codes int [B, K, F] -> audio [B, T].

        num_frames: int [B], of clips that have fewer than F: each comes out as it would alone, and
        what lies beyond is zero.
        """
        if audio_codes is not None:
            latents = self.quantizer.dequantize(audio_codes)
        else:
            latents = jnp.swapaxes(quantized_representation, 1, 2)
        samples = self.decoder(latents, padded, num_frames)
        if num_frames is not None:
            samples = without_rest(samples, self.architecture.decoded_length(num_frames))
        return FlaxDacDecoderOutput(audio_values=samples[..., 0].astype(jnp.float32))


class FlaxDacModel(FlaxPreTrainedCodec):
    """DAC with transformers' interface: audio [B, 1, T] to codes [B, K, F] and back.

    Methods compile on the first use of each shape. They may be called inside a caller's own
    `jax.jit`, `jax.vmap` and `jax.grad`: give `params` there as an argument, so that they are not
    compiled in as constants. `model.module` is the Flax module itself, for `apply` and `bind`.

    dtype: of the decoder's products; all else is float32. jnp.bfloat16 is faster where the hardware
        has it, and less exact.
    encode_dtype: of the encoder's; anything but float32 changes codes.
    precision: of float32 products; the default reproduces the reference on every device.
    """

    config_class = DacConfig
    module_class = FlaxDacModule

    @staticmethod
    def weight_rules(config: DacConfig) -> tuple[WeightRule, ...]:
        return dac_weight_rules(config.architecture)

    def encode(
        self,
        input_values,
        n_quantizers: int | None = None,
        params: dict | None = None,
        return_dict: bool | None = None,
        chunk_length_s: float | None = None,
        padded: bool = True,
        padding_mask=None,
    ) -> FlaxDacEncoderOutput:
        """Encode audio.

        input_values: float [B, 1, T] at `config.sampling_rate`, taken as it is: like the
            reference's `encode`, this pads nothing, so the last T % hop_length samples may go
            uncoded. The feature extractor pads.
        n_quantizers: how many codebooks to use, 1 to `config.n_codebooks` (all of them by default)
        chunk_length_s: instead of the configuration's encode_chunk_length_s. Codes do not depend on
            it; the output is on the host then, in NumPy arrays, and memory of the device does not
            depend on the length.
        padded: False leaves out the zero padding of all convolutions and gives only the frames
            whose samples are all there, `config.encoded_length(T, padded=False)` of them
        padding_mask: int [B, T] or [B, 1, T], 1 where a clip is and 0 after it, as the feature
            extractor gives. Each clip comes out as it would alone, whatever else is in its batch
            and however far it is padded: silence fills its last frame, codes and what leads to them
            are zero beyond it, and the loss is that of the frames that there are. None: all clips
            have T samples.

        Raises `ValueError` for another shape or dtype, too few samples for one frame, a mask that
        is no such mask, or a number of codebooks that the model does not have.
        """
        shortest = None if padding_mask is None else 1
        audio = self._checked_audio(input_values, shortest)
        levels = self.config.checked_quantizers(n_quantizers)
        frames = self.config.encode_chunk_frames(chunk_length_s)
        lengths = None
        if padding_mask is not None:
            audio, lengths = self._masked(audio, padding_mask, padded)
        if self.config.encoded_length(audio.shape[-1], padded) < 1:
            raise ValueError(
                f"{audio.shape[-1]} samples are too few for a frame with padded={padded}"
            )
        if frames is None or not padded or frames * self.config.hop_length >= audio.shape[-1]:
            options = {"n_quantizers": levels, "padded": padded}
            output = self._apply("encode", params, audio, lengths, **options)
        else:
            output = self._encode_chunks(audio, lengths, levels, frames, params)
        return self._as(output, return_dict)

    def encode_codes(
        self, input_values, lengths=None, n_quantizers: int | None = None
    ) -> jax.Array:
        """Codes int32 [B, K, F] and nothing else, for callers that cut and check clips themselves.

        input_values: float [B, 1, T], T a multiple of the hop; lengths: int [B], how many samples
            each clip has, or None where all have T
        """
        return self._apply("encode_codes", None, input_values, lengths, n_quantizers=n_quantizers)

    def decode_codes(self, audio_codes, num_frames=None) -> jax.Array:
        """The way back: int32 [B, K, F], int [B] -> float32 [B, T]."""
        return self._apply("decode", None, None, audio_codes, num_frames).audio_values

    def _masked(self, audio: Any, padding_mask: Any, padded: bool) -> tuple[Any, Any]:
        """Audio [B, 1, T] and its mask -> audio of whole frames, and the length of each clip."""
        if not padded:
            raise ValueError("padded=False takes no padding_mask: such windows are whole")
        numpy: Any = np if isinstance(audio, np.ndarray) else jnp
        lengths = lengths_of_mask(padding_mask, len(audio), audio.shape[-1])
        missing = -audio.shape[-1] % self.config.hop_length
        return numpy.pad(audio, ((0, 0), (0, 0), (0, missing))), lengths

    def _encode_chunks(
        self, audio: Any, lengths: Any, levels: int, frames: int, params: Any
    ) -> FlaxDacEncoderOutput:
        """Audio [B, 1, T] in chunks, the last of which brings the samples that make no frame.

        lengths: int [B], of clips that end before T; None where none does
        """
        hop_length = self.config.hop_length
        num_frames, rest = divmod(audio.shape[-1], hop_length)
        chunking = Chunking.exact(frames, self.config.encoder_context_frames)
        traced = is_traced(audio, lengths, params)
        audio = audio if traced else on_host(audio)

        def process(state, starts, _, size):
            spans = [start * hop_length for start in starts]
            more = rest if traced or starts[-1] + size == num_frames else 0
            piece = take_spans(audio, spans, size * hop_length + more)
            there = take_counts(lengths, spans, size * hop_length)
            output = self._apply("encode", params, piece, there, n_quantizers=levels)
            codes, latents = output.audio_codes, output.projected_latents
            return state, (output.quantized_representation, codes, latents)

        if traced:
            numpy, chunks = jnp, chunking.kept_traced(process, num_frames)
        else:
            at_once = self.chunks_at_once(len(audio), params)
            numpy, chunks = np, chunking.kept(process, num_frames, at_once=at_once)
        kept = zip(*chunks, strict=True)
        quantized, codes, latents = (numpy.concatenate(pieces, axis=-1) for pieces in kept)
        return FlaxDacEncoderOutput(
            loss=self._loss(codes, latents, lengths, params, numpy),
            quantized_representation=quantized,
            audio_codes=codes,
            projected_latents=latents,
        )

    def _loss(self, codes: Any, latents: Any, lengths: Any, params: Any, numpy: Any) -> Any:
        """`FlaxDacEncoderOutput.loss` of what whole clips were quantized to."""
        weights = self.params if params is None else params
        config, loss = self.config, 0.0
        by_level = numpy.split(latents, codes.shape[1], axis=1)
        num_frames = None if lengths is None else -(-lengths // config.hop_length)
        for level, projected in enumerate(by_level):
            codebook = weights["quantizer"][f"quantizers_{level}"]["codebook"]["embedding"]
            codewords = numpy.asarray(codebook)[codes[:, level]].swapaxes(1, 2)
            for weight, moved, target in (
                (config.commitment_loss_weight, projected, codewords),
                (config.codebook_loss_weight, codewords, projected),
            ):
                target = lax.stop_gradient(target) if numpy is jnp else target
                distance = (moved - target).swapaxes(1, 2)
                loss = loss + weight * mean_square(distance, num_frames, numpy)
        return numpy.asarray(loss, numpy.float32)

    def decode(
        self,
        quantized_representation=None,
        audio_codes=None,
        params: dict | None = None,
        return_dict: bool | None = None,
        padded: bool = True,
        num_samples: int | None = None,
        chunk_length_s: float | None = None,
        overlap: float | None = None,
        chunk_mode: str | None = None,
        num_frames=None,
    ) -> FlaxDacDecoderOutput:
        """Decode codes, or the quantized representation that `encode` gives (codes win).

        quantized_representation: float [B, D, F]
        audio_codes: int [B, K, F], K at most `config.n_codebooks`
        padded: False leaves out the zero padding of all convolutions and gives only the samples
            that F frames determine, `config.decoded_length(F, padded=False)` of them. It is how
            descript-audio-codec decodes the chunks of a long file.
        num_samples: crop the audio, or fill it with zeros, to this length. By default it is
            `config.decoded_length(F)`: as the reference, 320 F - 8 for the 16 and 24 kHz models.
        chunk_length_s, overlap, chunk_mode: instead of the configuration's decode_chunk_length_s,
            decode_overlap and decode_chunk_mode (see `CodecConfig`). Audio decoded in chunks is on
            the host, a NumPy array, and memory of the device does not depend on its length.
        num_frames: int [B], frames of each clip that there are, F for all by default. Each clip
            comes out as it would alone, `config.decoded_length(num_frames)` samples and zeros.

        Raises `ValueError` for other shapes or dtypes and for codes outside the codebook. Traced
        codes cannot be checked: those outside give NaN.
        """
        if num_samples is not None:
            _require_num_samples(num_samples)
        if audio_codes is not None:
            most, size = self.config.n_codebooks, self.config.codebook_size
            arrays = (None, checked_codes(audio_codes, "batch", most, size))
        elif quantized_representation is not None:
            arrays = (self._checked_latents(quantized_representation), None)
        else:
            raise ValueError("decode needs quantized_representation or audio_codes; both are None")
        batch, longest = _extent(arrays)
        if output_length(self.module.architecture.decoder_convs, longest, padded) < 1:
            raise ValueError(f"{longest} frames are too few to decode with padded={padded}")
        if num_frames is not None and not padded:
            raise ValueError("padded=False takes no num_frames: such windows are whole")
        num_frames = checked_frames(num_frames, (batch,), longest)
        chunks = self.config.decode_chunks(chunk_length_s, overlap, chunk_mode)
        if chunks is None or chunks.frames >= longest or not padded:
            output = self._apply("decode", params, *arrays, num_frames, padded=padded)
        else:
            numpy: Any = jnp if is_traced(arrays, num_frames, params) else np
            pieces = self._decoded(arrays, chunks, params, num_frames=num_frames)
            audio = numpy.concatenate([*pieces], axis=-1)
            if num_frames is not None:
                there = self.config.architecture.decoded_length(num_frames)
                audio = numpy.where(numpy.arange(audio.shape[-1]) < there[:, None], audio, 0)
            output = FlaxDacDecoderOutput(audio_values=audio)
        if num_samples is not None:
            output = FlaxDacDecoderOutput(_fit_length(output.audio_values, num_samples))
        return self._as(output, return_dict)

    def decode_pieces(
        self,
        audio_codes: Any,
        chunks: DecodeChunks,
        span: tuple[int, int] | None = None,
        params: dict | None = None,
    ) -> Iterator[np.ndarray]:
        """`decode` for audio that need not fit in memory: piece by piece, as it is made.

        audio_codes: int [B, K, F]
        chunks: what `config.decode_chunks` gives
        span: the samples, from the first to before the second, that are wanted; no more than
            they depend on is decoded. In "exact" chunks they are those of the whole.
        -> float32 [B, 1, T], one after the other, `config.decoded_length(F)` or the span in all
        """
        config = self.config
        codes = checked_codes(audio_codes, "batch", config.n_codebooks, config.codebook_size)
        hop_length, num_frames = config.hop_length, codes.shape[-1]
        first, last = span or (0, config.decoded_length(num_frames))
        start = first // hop_length
        frames = (start, min(-(-last // hop_length), num_frames))
        pieces = self._decoded((None, codes), chunks, params, frames)
        return (
            piece[:, None]
            for piece in cropped(pieces, last - first, skipped=first - start * hop_length)
        )

    def _decoded(
        self,
        arrays: tuple,
        chunks: DecodeChunks,
        params: Any,
        span: tuple[int, int] | None = None,
        num_frames: Any = None,
    ) -> Iterator[Any]:
        """-> pieces of audio [B, T], of latents or codes [B, D or K, F], or a span of frames.

        num_frames: int [B], of clips that end before F
        """
        hop_length, (batch, longest) = self.config.hop_length, _extent(arrays)
        chunking = Chunking.of(chunks, self.config.decoder_context_frames)
        traced = is_traced(arrays, num_frames, params)
        if not traced:
            arrays = jax.tree.map(on_host, arrays)

        def process(state, starts, _, size):
            pieces = [take_spans(array, starts, size) for array in arrays]
            there = take_counts(num_frames, starts, size)
            audio = self._apply("decode", params, *pieces, there).audio_values
            # All but the last must fill their frames: odd strides leave some short.
            missing = 0 if chunking.is_mean else size * hop_length - audio.shape[-1]
            return state, jnp.pad(audio, ((0, 0), (0, max(missing, 0))))

        if traced:
            numpy, kept = jnp, chunking.kept_traced(process, longest, hop_length)
        else:
            at_once = self.chunks_at_once(batch, params)
            numpy = np
            kept = chunking.kept(process, longest, hop_length, at_once=at_once, span=span)
        first, last = span or (0, longest)
        length = None
        if last == longest:
            length = self.config.decoded_length(longest) - first * hop_length
        return cropped(joined(kept, chunking.fade(hop_length), numpy), length)

    def __call__(
        self,
        input_values,
        n_quantizers: int | None = None,
        params: dict | None = None,
        return_dict: bool | None = None,
        keep_length: bool = False,
    ) -> FlaxDacOutput:
        """Encode and decode: [B, 1, T] -> audio [B, T], codes and losses.

        As transformers' forward pass, the audio is cropped to T but may be shorter: by the samples
        that make no whole frame, and by 8 with the odd strides of the 16 and 24 kHz models.
        keep_length: pad the input so that the audio covers it, and give back exactly T samples
            (there may be one more frame of codes).
        """
        audio = self._checked_audio(input_values, shortest=1 if keep_length else None)
        length = audio.shape[-1]
        if keep_length:
            padded_length = self.config.frames_to_cover(length) * self.config.hop_length
            audio = jnp.pad(audio, ((0, 0), (0, 0), (0, padded_length - length)))
        levels = self.config.checked_quantizers(n_quantizers)
        if self.config.encode_chunk_length_s or self.config.decode_chunk_length_s:
            encoded = self.encode(audio, levels, params, True)
            latents = encoded.quantized_representation
            values = self.decode(latents, params=params, return_dict=True).audio_values
            output: Any = FlaxDacOutput(audio_values=values[:, : audio.shape[-1]], **encoded)
        else:
            output = self._apply("__call__", params, audio, n_quantizers=levels)
        if keep_length:
            output = output.replace(audio_values=output.audio_values[:, :length])
        return self._as(output, return_dict)

    def _checked_audio(self, input_values, shortest: int | None = None) -> jax.Array:
        shortest = self._shortest_input if shortest is None else shortest
        hint = "channels are coded one by one: put them on the batch axis"
        return checked_audio(input_values, channels=1, shortest=shortest, hint=hint)

    @cached_property
    def _shortest_input(self) -> int:
        """The fewest samples that make a frame without padding; at most one hop."""
        convs = self.module.architecture.encoder_convs
        lengths = range(1, self.config.hop_length + 1)
        return next(length for length in lengths if output_length(convs, length))

    def _checked_latents(self, quantized_representation) -> Any:
        latents = quantized_representation
        latents = latents if isinstance(latents, jax.Array) else np.asarray(latents)
        width = self.config.hidden_size
        if latents.ndim != 3 or latents.shape[1] != width or 0 in latents.shape:
            raise ValueError(
                f"quantized_representation has shape {latents.shape}; expected [batch, {width}, "
                "frames]"
            )
        if not jnp.issubdtype(latents.dtype, jnp.floating):
            raise ValueError(f"quantized_representation has dtype {latents.dtype}; expected floats")
        return latents


def _extent(arrays: tuple[Any, Any]) -> tuple[int, int]:
    """(B, F) of latents or codes, [B, ..., F]; the other is None."""
    (given,) = (array for array in arrays if array is not None)
    return given.shape[0], given.shape[-1]


def _fit_length(audio: Any, num_samples: int) -> Any:
    """[B, T] -> [B, num_samples], cropped or filled with zeros at the end."""
    numpy: Any = np if isinstance(audio, np.ndarray) else jnp
    audio = audio[:, :num_samples]
    return numpy.pad(audio, ((0, 0), (0, num_samples - audio.shape[1])))


def _require_num_samples(num_samples: int) -> None:
    if not isinstance(num_samples, int | np.integer) or isinstance(num_samples, bool):
        raise ValueError(f"num_samples={num_samples!r} must be an integer")
    if num_samples < 0:
        raise ValueError(f"num_samples={num_samples} must not be negative")
