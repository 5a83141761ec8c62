"""AudioCodec: everything between an audio file and its codes that is not the network."""

import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from codax.codec.audio import FULL_SCALE, Audio, LazyAudio
from codax.codec.coding import Coder, decode_chunks, encode_chunk_frames
from codax.codec.dac_coder import DacCoder
from codax.codec.descript_chunks import DescriptEncoder
from codax.codec.encodec_coder import EncodecCoder
from codax.codec.language_models import read_compressed
from codax.codec.spool import Spool
from codax.configuration import preset_name_of
from codax.configuration.config_fields import require_chunk_length
from codax.conversion import resolve_model
from codax.errors import AudioError, FormatError
from codax.feature_extraction import (
    AudioBlocks,
    LoudnessMeter,
    Resampler,
    as_float_audio,
    gain_to_loudness,
    gain_to_peak,
    mix,
)
from codax.formats import EncodedAudio
from codax.formats.encoded_audio import MAX_INPUT_DB, MAX_SAMPLING_RATE
from codax.modeling import FlaxDacModel, FlaxEncodecModel, model_class_of
from codax.modeling.windows import fitted
from codax.streaming import Encoder, StreamDecoder, StreamEncoder, encoder_of, join_frames

HUB_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)

AudioSource = str | os.PathLike | bytes | BinaryIO | ArrayLike | Audio
CodesSource = str | os.PathLike | bytes | BinaryIO | EncodedAudio

BLOCK = 1 << 20
"""Samples of an array that are prepared at a time."""

RESAMPLER_REACH = 400
"""Farther than the resampler's filter reaches, in samples at the lower of two rates."""

TRAINED = "trained"
"""The loudness that the model was trained on."""


class AudioCodec:
    """A codec for files: `encode` reads, resamples, normalises and codes, `decode` goes back.

    A file gets back its sampling rate, its channels, its exact length, and with DAC its loudness
    and the balance between its channels. Codes are those of the whole clip, however long; from file
    to file, memory does not grow with its length.
    """

    def __init__(self, model: FlaxDacModel | FlaxEncodecModel, model_name: str | None = None):
        self.model = model
        self.model_name = model_name
        self.config = model.config
        self._preset = preset_name_of(model.config)
        self._coder: Coder = (
            EncodecCoder(model) if isinstance(model, FlaxEncodecModel) else DacCoder(model)
        )

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike, **options) -> "AudioCodec":
        """Load a codec by preset name ("dac_44khz"), Hub id or folder.

        `options` are those of `FlaxDacModel.from_pretrained`. Raises `CheckpointError` for a name
        that is none of these or weights that do not fit, `OSError` where nothing can be fetched.
        """
        resolved = resolve_model(name_or_path)
        hub_options = {name: options[name] for name in HUB_OPTIONS if name in options}
        model_class = model_class_of(resolved, **hub_options)
        return cls(model_class.from_pretrained(resolved, **options), str(name_or_path))

    @property
    def sampling_rate(self) -> int:
        """Hz, of the audio inside the network; files may have any rate."""
        return self.config.sampling_rate

    def encode(
        self,
        audio: AudioSource,
        sampling_rate: int | None = None,
        n_quantizers: int | None = None,
        bandwidth: float | None = None,
        loudness_db: float | str | None = TRAINED,
        mix_channels: bool = False,
        descript_window_s: float | None = None,
    ) -> EncodedAudio:
        """Encode a clip.

        audio: a path, the bytes of a file, a binary file object, an `Audio`, or an array [T] or
            [C, T] of floats or integer PCM at `sampling_rate` Hz. Models of one channel code the
            channels one by one; EnCodec's 48 kHz model takes two.
        n_quantizers: codebooks to use; fewer give a lower bitrate. DAC uses all by default.
        bandwidth: kbps instead, for EnCodec, where 6 is the default as in its own command (or the
            highest that the model has, if it has no 6)
        loudness_db: LUFS that the clip is brought to before encoding, jointly over its channels, so
            that their balance stays; `decode` restores the loudness of the original. None: neither.
            By default -16 for DAC, which was trained so, and None for EnCodec.
        mix_channels: mix to the number of channels that the model codes: to mono by the mean, from
            mono by repetition
        descript_window_s: code in the chunks of descript-audio-codec with this `win_duration`, for
            `.dac` files that must be those that its `compress` writes. Codes then depend on it, and
            there are more of them.

        Raises `AudioError` for audio that cannot be read, has no samples, no known rate, or a
        number of channels that the model does not take; `ValueError` for a number of codebooks or a
        bandwidth that the model does not have.
        """
        source = _Source.of(audio, sampling_rate)
        levels = self._coder.levels(n_quantizers, bandwidth)
        loudness_db = self._checked_loudness(loudness_db)
        per_stream = self._coder.channels_per_stream
        channels = per_stream if mix_channels else source.channels
        if channels % per_stream:
            raise AudioError(
                f"the audio has {channels} channels, but the model takes {per_stream}; "
                "mix_channels=True (--mix) converts it"
            )
        counted = _Counted(source.blocks, source.name)

        def prepared() -> Iterator[np.ndarray]:
            blocks = (mix(block, per_stream) if mix_channels else block for block in counted)
            resampler = Resampler(source.sampling_rate, self.sampling_rate, channels)
            return resampler.run(blocks)

        if loudness_db is None:
            blocks, input_db = prepared(), None
        else:
            meter = LoudnessMeter(self.sampling_rate, channels)
            blocks, input_db = _brought_to(loudness_db, prepared, meter)
        encoder = self._encoder(levels, channels // per_stream, descript_window_s)
        prepared_blocks = _Counted(blocks, source.name)
        coded = join_frames(encoder.run(prepared_blocks))
        return EncodedAudio(
            codes=coded.codes,
            sampling_rate=source.sampling_rate,
            num_samples=counted.num_samples,
            input_db=input_db,
            channels_per_stream=per_stream,
            **_chunks_of(encoder),
            segment_frames=coded.segment_frames,
            scales=coded.scales,
            model=self.model_name,
            preset=self._preset,
            coded_samples=prepared_blocks.num_samples,
        )

    def decode(
        self,
        encoded: CodesSource,
        start_s: float | None = None,
        end_s: float | None = None,
        restore_loudness: bool = True,
    ) -> Audio:
        """Decode a clip: a path, the bytes of a file, a file object, or an `EncodedAudio`.

        start_s, end_s: seconds, where the audio that is wanted begins and ends. It equals that part
            of the whole (decoded exactly, as it is unless the configuration asks for approximate
            chunks), and no more is decoded than it depends on; but where the loudness of the
            original is restored, that of the whole has to be measured, which decodes all of it.
        restore_loudness: False leaves the audio at the level that it was coded at

        Files of descript-audio-codec and DAC-JAX decode as they do there, chunk by chunk, except
        that one gain for all channels restores the loudness, so that their balance stays.

        Raises `FormatError` for a damaged file, or codes that this model cannot have made,
        `ValueError` for a span that is not within the clip.
        """
        return self.decode_lazily(encoded, start_s, end_s, restore_loudness).read()

    def decode_lazily(
        self,
        encoded: CodesSource,
        start_s: float | None = None,
        end_s: float | None = None,
        restore_loudness: bool = True,
        rescale: bool = False,
    ) -> LazyAudio:
        """`decode`, but nothing is decoded before the audio is saved, or iterated over.

        However long it is, `decode_lazily("song.dac").save("song.wav")` takes the same memory.

        rescale: turn audio down that would clip (see `Audio.without_clipping`)
        """
        clip = encoded if isinstance(encoded, EncodedAudio) else _read(encoded)
        if not restore_loudness:
            clip = dataclasses.replace(clip, input_db=None)
        span = _checked_span(clip, start_s, end_s)
        blocks = self._decoded(clip, span, self._checked_length(clip))
        if rescale:
            blocks = _rescaled(blocks, clip.channels)
        return LazyAudio(blocks, clip.sampling_rate, clip.channels, span[1] - span[0])

    def stream_encoder(
        self,
        sampling_rate: int | None = None,
        channels: int | None = None,
        n_quantizers: int | None = None,
        bandwidth: float | None = None,
        gain: float = 1.0,
    ) -> StreamEncoder:
        """For audio that comes piece by piece, as from a microphone: see `StreamEncoder`.

        sampling_rate, channels: of the pieces; by default the model's
        n_quantizers, bandwidth: as `encode` takes them
        gain: a factor for all samples. The loudness of a stream cannot be measured before it ends.
        """
        levels = self._coder.levels(n_quantizers, bandwidth)
        frames = encode_chunk_frames(self.config)
        return StreamEncoder(self.model, levels, frames, sampling_rate, channels, gain)

    def stream_decoder(
        self, sampling_rate: int | None = None, channels: int | None = None
    ) -> StreamDecoder:
        """For codes that come piece by piece, as from a language model: see `StreamDecoder`.

        sampling_rate, channels: of the audio; by default the model's
        """
        frames = decode_chunks(self.config, is_span=True).frames
        return StreamDecoder(self.model, frames, sampling_rate, channels)

    def _encoder(self, levels: int, streams: int, descript_window_s: float | None) -> Encoder:
        if descript_window_s is None:
            frames = encode_chunk_frames(self.config)
            return encoder_of(self.model, levels, frames, streams, eager=False)
        if not isinstance(self.model, FlaxDacModel):
            raise ValueError(f"descript_window_s={descript_window_s}: only DAC has such chunks")
        require_chunk_length("descript_window_s", descript_window_s)
        return DescriptEncoder(self.model, levels, descript_window_s, streams)

    def _checked_length(self, clip: EncodedAudio) -> int:
        """How many samples codes decode to. Raises `FormatError` for those of another model."""
        clip.check_codes(self._coder.num_codebooks, self._coder.codebook_size)
        if clip.channels_per_stream != self._coder.channels_per_stream:
            raise FormatError(
                f"codes hold {clip.channels_per_stream} channels each, allowed: "
                f"{self._coder.channels_per_stream}, as the model codes"
            )
        decoded_length = self._coder.decoded_length(clip)
        decoded_s = (decoded_length + self.config.hop_length) / self.sampling_rate
        if clip.num_samples > decoded_s * clip.sampling_rate + 1:
            raise FormatError(
                f"num_samples is {clip.num_samples}, allowed: up to the {decoded_s:.3f} s that "
                f"{clip.num_frames} frames hold"
            )
        return decoded_length

    def _decoded(
        self, clip: EncodedAudio, span: tuple[int, int], decoded_length: int
    ) -> Iterator[np.ndarray]:
        """Samples from span[0] to before span[1], float32 [C, n], at the rate of the clip."""
        start, length = span[0], span[1] - span[0]
        if clip.input_db is None and length < clip.num_samples:
            coded_span, start = _coded_span(span, clip.sampling_rate, self.sampling_rate)
            coded_span = coded_span[0], min(coded_span[1], decoded_length)
            blocks = self._coder.decode(clip, coded_span)
        else:
            blocks = self._decoded_whole(clip)
        resampler = Resampler(self.sampling_rate, clip.sampling_rate, clip.channels)
        return fitted(resampler.run(blocks), length, skipped=start)

    def _decoded_whole(self, clip: EncodedAudio) -> Iterator[np.ndarray]:
        """All of a clip at the model's rate, with the loudness of the original."""
        blocks = self._coder.decode(clip)
        if clip.input_db is None:
            yield from blocks
            return
        targets = clip.input_db if isinstance(clip.input_db, tuple) else (clip.input_db,)
        each = clip.channels // len(targets)  # several where streams were normalised one by one
        meters = [LoudnessMeter(self.sampling_rate, each) for _ in targets]
        with Spool(clip.channels) as spool:
            for block in spool.fill(blocks):
                for meter, part in zip(meters, np.split(block, len(meters)), strict=True):
                    meter.push(part)
            gains = [
                gain_to_loudness(meter.loudness, target)
                for meter, target in zip(meters, targets, strict=True)
            ]
            by_channel = np.repeat(np.array(gains, np.float32), each)[:, None]
            yield from (block * by_channel for block in spool)

    def _checked_loudness(self, loudness_db: float | str | None) -> float | None:
        if loudness_db == TRAINED:
            return self._coder.training_loudness_db
        if loudness_db is None:
            return None
        if isinstance(loudness_db, str) or not abs(loudness_db) <= MAX_INPUT_DB:
            raise ValueError(f"loudness_db={loudness_db} must be LUFS from -200 to 200, or None")
        return loudness_db


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
    """Audio to encode, which can be read more than once: iterating gives blocks float32 [C, n]."""

    name: str | os.PathLike
    sampling_rate: int
    channels: int
    blocks: Iterable[np.ndarray]

    @classmethod
    def of(cls, audio: AudioSource, sampling_rate: int | None) -> "_Source":
        given: Any = audio
        name = given if isinstance(given, str | os.PathLike) else "audio"
        if isinstance(given, str | os.PathLike | bytes) or hasattr(given, "read"):
            blocks = AudioBlocks(given)
            source = cls(name, blocks.sampling_rate, blocks.channels, blocks)
        else:
            rate = given.sampling_rate if isinstance(given, Audio) else sampling_rate
            if rate is None:
                raise AudioError("audio given as an array needs its sampling_rate (Hz)")
            samples = given.samples if isinstance(given, Audio) else given
            samples = np.atleast_2d(as_float_audio(samples))
            if samples.ndim != 2 or 0 in samples.shape:
                raise AudioError(
                    f"{name}: has shape {samples.shape}; expected channels and samples, at least "
                    "one"
                )
            blocks = np.split(samples, range(BLOCK, samples.shape[1], BLOCK), axis=1)
            source = cls(name, rate, len(samples), blocks)
        rate = source.sampling_rate
        is_integer = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
        if not is_integer or not 1 <= rate <= MAX_SAMPLING_RATE:
            raise AudioError(f"{name}: sampling_rate={rate!r} must be an integer of 1 to 768000 Hz")
        if sampling_rate not in (None, rate):
            raise AudioError(f"{name}: is at {rate} Hz, but sampling_rate={sampling_rate}")
        return source


class _Counted:
    """The same blocks, and how many samples they were. Raises `AudioError` if there are none."""

    def __init__(self, blocks: Iterable[np.ndarray], name: str | os.PathLike):
        self.num_samples = 0
        self._blocks = blocks
        self._name = name

    def __iter__(self) -> Iterator[np.ndarray]:
        self.num_samples = 0
        for block in self._blocks:
            self.num_samples += block.shape[1]
            yield block
        if not self.num_samples:
            raise AudioError(f"{self._name}: holds no samples; expected at least one")


def _chunks_of(encoder: Encoder) -> dict[str, Any]:
    """What `EncodedAudio` tells of the chunks that a clip was coded in."""
    if isinstance(encoder, DescriptEncoder) and encoder.is_chunked:
        return {"chunk_frames": encoder.chunk_frames, "padding": False}
    return {}


def _brought_to(
    loudness_db: float, prepared: Callable[[], Iterator[np.ndarray]], meter: LoudnessMeter
) -> tuple[Iterator[np.ndarray], float]:
    """Audio at a loudness, turned down where it would exceed 1 -> it, and the loudness it had.

    prepared: gives the audio, from the beginning each time
    """
    for block in prepared():
        meter.push(block)
    input_db = meter.loudness
    gain = gain_to_loudness(input_db, loudness_db)
    limit = gain_to_peak(float(np.float32(meter.peak) * gain))
    return (block * gain * limit for block in prepared()), input_db


def _rescaled(blocks: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
    """`Audio.without_clipping` of all blocks together."""
    with Spool(channels) as spool:
        for _ in spool.fill(blocks):
            pass
        # Who writes the audio refuses what is not finite.
        gain = gain_to_peak(spool.peak, FULL_SCALE) if math.isfinite(spool.peak) else 1.0
        yield from (block * np.float32(gain) for block in spool)


def _checked_span(
    clip: EncodedAudio, start_s: float | None, end_s: float | None
) -> tuple[int, int]:
    """Seconds as samples. Raises `ValueError` naming the value that is not within the clip."""
    limits = f"must be seconds, from 0 to {clip.duration_s:.6g}, and before the end"
    for name, value in (("start_s", start_s), ("end_s", end_s)):
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 <= value <= clip.duration_s):
            raise ValueError(f"{name}={value!r} {limits}")
    start = 0 if start_s is None else round(start_s * clip.sampling_rate)
    end = clip.num_samples if end_s is None else round(end_s * clip.sampling_rate)
    if start >= end:
        raise ValueError(f"start_s={start_s!r}, end_s={end_s!r} {limits}")
    return start, end


def _coded_span(
    span: tuple[int, int], sampling_rate: int, coded_rate: int
) -> tuple[tuple[int, int], int]:
    """(the span at the model's rate of which one at `sampling_rate` is made, what to skip of that).

    It begins where samples of both rates coincide, and reaches as far beyond as the resampler sees.
    """
    if sampling_rate == coded_rate:
        return span, 0
    both = math.gcd(sampling_rate, coded_rate)  # so many times a second
    reach_s = RESAMPLER_REACH / min(sampling_rate, coded_rate)
    unit = max(0, span[0] * both // sampling_rate - math.ceil(reach_s * both))
    stop = math.ceil((span[1] / sampling_rate + reach_s) * coded_rate)
    return (unit * coded_rate // both, stop), span[0] - unit * sampling_rate // both


def _read(source: str | os.PathLike | bytes | BinaryIO) -> EncodedAudio:
    if isinstance(source, io.TextIOBase) or not (
        isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read")
    ):
        raise FormatError(
            f"codes are read from a path, bytes or a binary file, not {type(source).__name__}"
        )
    return read_compressed(source)
