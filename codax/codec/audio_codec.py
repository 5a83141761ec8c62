"""AudioCodec: everything between an audio file and its codes that is not the network."""

import dataclasses
import io
import itertools
import math
import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

import jax
import numpy as np

from codax.codec.audio import FULL_SCALE, Audio, LazyAudio
from codax.codec.batches import SHORTEST_S, Batches, Key, PartSizes, Work
from codax.codec.coding import Coder, Parts, decode_chunks, encode_chunk_frames
from codax.codec.dac_coder import DacCoder
from codax.codec.dac_parts import DacParts
from codax.codec.descript_chunks import DescriptEncoder
from codax.codec.encodec_coder import EncodecCoder
from codax.codec.encodec_parts import EncodecParts
from codax.codec.language_models import read_compressed
from codax.codec.preparing import (
    TRAINED,
    AudioSource,
    LoadedClip,
    Original,
    Preparation,
    PreparedClip,
    checked_loudness,
)
from codax.codec.spool import Spool
from codax.configuration import preset_name_of
from codax.configuration.config_fields import require_chunk_length
from codax.conversion import resolve_model
from codax.errors import CodaxError, FormatError
from codax.feature_extraction import LoudnessMeter, Resampler, gain_to_loudness, gain_to_peak
from codax.formats import EncodedAudio
from codax.modeling import FlaxDacModel, FlaxEncodecModel, model_class_of
from codax.modeling.windows import fitted
from codax.streaming import (
    CodedFrames,
    Encoder,
    StreamDecoder,
    StreamEncoder,
    encoder_of,
    join_frames,
)

HUB_OPTIONS = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
)

CodesSource = str | os.PathLike | bytes | BinaryIO | EncodedAudio

CODERS: dict[str, type[DacCoder] | type[EncodecCoder]] = {
    "dac": DacCoder,
    "encodec": EncodecCoder,
}
"""By the `model_type` of the configuration."""

PARTS: dict[str, type[DacParts] | type[EncodecParts]] = {"dac": DacParts, "encodec": EncodecParts}

BATCH_S = 80.0
"""Seconds of audio in a batch of parts, which take up to 8 GB of a device with DAC at 44.1 kHz. A
CPU gets one part at a time: more are not faster there."""

RESAMPLER_REACH = 400
"""Farther than the resampler's filter reaches, in samples at the lower of two rates."""


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
        self._coder: Coder = CODERS[model.config.model_type](model)  # pyright: ignore

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
        levels = self._coder.levels(n_quantizers, bandwidth)
        clip = self.preparation(loudness_db, mix_channels).of(audio, sampling_rate)
        return self._encode_alone(clip, levels, descript_window_s)

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
            chunks). Of more than ten seconds no more is decoded than it depends on; but where the
            loudness of the original is restored, that of the whole has to be measured, which
            decodes all of it.
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

    def preparation(
        self,
        loudness_db: float | str | None = TRAINED,
        mix_channels: bool = False,
        resample: bool = True,
    ) -> Preparation:
        """How `encode` prepares audio for the model, with arguments as it takes them."""
        return preparation_for(self.config, loudness_db, mix_channels, resample)

    def encode_clips(
        self,
        clips: Iterable[tuple[Key, LoadedClip | PreparedClip]],
        n_quantizers: int | None = None,
        bandwidth: float | None = None,
        chunk_length_s: float | None = None,
        batch_length_s: float | None = None,
    ) -> Iterator[tuple[Key, EncodedAudio | Exception]]:
        """Encode many clips, in batches of a few shapes, each with the codes that it has alone.

        clips: what `preparation().of` gives, with a key by which each is known. Those in memory
            (`PreparedClip.loaded`) share batches; the others are encoded one by one.
        n_quantizers, bandwidth: as `encode` takes them
        chunk_length_s: seconds of audio that go through the network as one, 10 by default
        batch_length_s: seconds in a batch, or 0 for one part at a time; by default 80, and 0 on a
            CPU

        -> (key, clip) as soon as each is encoded, in any order; where one cannot be, the error
        """
        levels = self._coder.levels(n_quantizers, bandwidth)
        parts = self._parts(chunk_length_s)

        def work_on(clip: LoadedClip | PreparedClip) -> Work:
            work = parts.to_encode(clip.samples) if isinstance(clip, LoadedClip) else None
            if work is None:
                return Work([], lambda _: self._encode_alone(clip, levels))
            original, joined = clip.original, work.joined  # the samples need not wait for it
            return Work(work.parts, lambda outputs: self._encoded(original, joined(outputs)))

        sizes = self._part_sizes(parts.longest_to_encode, batch_length_s)
        batches = Batches(parts.encoder(levels), sizes, self.config.hop_length)
        return batches.run((key, work_on(clip)) for key, clip in clips)

    def decode_clips(
        self,
        clips: Iterable[tuple[Key, EncodedAudio]],
        restore_loudness: bool = True,
        chunk_length_s: float | None = None,
        batch_length_s: float | None = None,
    ) -> Iterator[tuple[Key, Audio | Exception]]:
        """The way back: `decode` for many clips, exactly, in batches. See `encode_clips`."""
        parts = self._parts(chunk_length_s)

        def work_on(clip: EncodedAudio) -> Work:
            if not restore_loudness:
                clip = dataclasses.replace(clip, input_db=None)
            try:
                self._checked_length(clip)
                work = parts.to_decode(clip)
            except CodaxError as error:
                return Work([], partial(_raise, error))
            if work is None:
                return Work([], lambda _: self.decode(clip))
            joined = work.joined
            return Work(work.parts, lambda outputs: self._finished(clip, joined(outputs)))

        sizes = self._part_sizes(parts.longest_to_decode, batch_length_s)
        return Batches(parts.decoder(), sizes, 1).run((key, work_on(clip)) for key, clip in clips)

    def _parts(self, chunk_length_s: float | None) -> Parts:
        require_chunk_length("chunk_length_s", chunk_length_s)
        return PARTS[self.config.model_type](self.model, chunk_length_s)  # pyright: ignore

    def _part_sizes(self, longest: int, batch_length_s: float | None) -> PartSizes:
        require_chunk_length("batch_length_s", batch_length_s)
        if batch_length_s is None:
            batch_length_s = 0.0 if jax.default_backend() == "cpu" else BATCH_S
        frame_rate = self.sampling_rate / self.config.hop_length
        shortest = min(math.ceil(SHORTEST_S * frame_rate), longest)
        devices = self.model.chunks_at_once(1)
        return PartSizes(shortest, longest, math.ceil(batch_length_s * frame_rate), devices)

    def _encode_alone(
        self, clip: LoadedClip | PreparedClip, levels: int, descript_window_s: float | None = None
    ) -> EncodedAudio:
        blocks: Iterable[np.ndarray] = clip
        if descript_window_s is None:
            most = encode_chunk_frames(self.config) * self.config.hop_length
            short, blocks = _all_if_short(clip, most)
            coded = None if short is None else self._encode_at_once(short, levels)
            if coded is not None:
                return self._encoded(clip.original, coded)
        streams = clip.channels // self._coder.channels_per_stream
        encoder = self._encoder(levels, streams, descript_window_s)
        coded = join_frames(encoder.run(blocks))
        return self._encoded(clip.original, coded, **_chunks_of(encoder))

    def _encode_at_once(self, samples: np.ndarray, levels: int) -> CodedFrames | None:
        """A short clip, filled up to one of a few lengths, so that few programs are compiled.

        float32 [C, T]; None if it must be coded piece by piece.
        """
        parts = self._parts(None)
        work = parts.to_encode(samples)
        if work is None:
            return None
        sizes = self._sizes_at_once(parts.longest_to_encode, work)
        return Batches(parts.encoder(levels), sizes, self.config.hop_length).run_one(work)

    def _decode_at_once(self, clip: EncodedAudio) -> np.ndarray | None:
        """Likewise -> float32 [C, T] at the model's rate."""
        parts = self._parts(None)
        work = parts.to_decode(clip)
        if work is None:
            return None
        sizes = self._sizes_at_once(parts.longest_to_decode, work)
        return Batches(parts.decoder(), sizes, 1).run_one(work)

    def _sizes_at_once(self, longest: int, work: Work) -> PartSizes:
        """Of one clip's parts: one by one on CPUs, elsewhere side by side, in 2, 4, 8, ... rows."""
        sizes = self._part_sizes(longest, batch_length_s=0)
        if jax.default_backend() == "cpu":
            return sizes
        size = max(sizes.size_of(part.frames) for part in work.parts)
        return dataclasses.replace(sizes, batch=size << (len(work.parts) - 1).bit_length())

    def _finished(self, clip: EncodedAudio, decoded: np.ndarray) -> Audio:
        """All of a clip as the network decoded it, at the loudness and rate of the original."""
        resampler = Resampler(self.sampling_rate, clip.sampling_rate, clip.channels)
        blocks = resampler.run(self._at_loudness(clip, [decoded]))
        pieces = [*fitted(blocks, clip.num_samples)]
        return Audio(np.concatenate(pieces, axis=1), clip.sampling_rate)

    def _encoded(self, original: Original, coded: CodedFrames, **chunks: Any) -> EncodedAudio:
        """A clip, after its last sample was coded."""
        return EncodedAudio(
            **original._asdict(),
            codes=coded.codes,
            channels_per_stream=self._coder.channels_per_stream,
            segment_frames=coded.segment_frames,
            scales=coded.scales,
            model=self.model_name,
            preset=self._preset,
            **chunks,
        )

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
            blocks = self._at_model_rate(clip, coded_span)
        else:
            blocks = self._at_loudness(clip, self._at_model_rate(clip))
        resampler = Resampler(self.sampling_rate, clip.sampling_rate, clip.channels)
        return fitted(resampler.run(blocks), length, skipped=start)

    def _at_model_rate(
        self, clip: EncodedAudio, span: tuple[int, int] | None = None
    ) -> Iterator[np.ndarray]:
        """What is short in one piece; else, and segments of a span, what is needed in turn."""
        audio = None
        is_short = clip.num_frames <= decode_chunks(self.config, is_span=span is not None).frames
        if is_short and (span is None or clip.segment_frames is None):
            audio = self._decode_at_once(clip)
        if audio is None:
            yield from self._coder.decode(clip, span)
        else:
            yield audio if span is None else audio[:, slice(*span)]

    def _at_loudness(
        self, clip: EncodedAudio, blocks: Iterable[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """All of a decoded clip, at the model's rate, with the loudness of the original."""
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


def preparation_for(
    config: Any,
    loudness_db: float | str | None = TRAINED,
    mix_channels: bool = False,
    resample: bool = True,
) -> Preparation:
    """How audio is prepared for a model with this configuration; no weights are needed for it."""
    trained = CODERS[config.model_type].training_loudness_db
    loudness_db = checked_loudness(loudness_db, trained)
    return Preparation(
        config.sampling_rate, config.audio_channels, loudness_db, mix_channels, resample
    )


def _raise(error: Exception, _: Any) -> Any:
    raise error


def _all_if_short(
    blocks: Iterable[np.ndarray], most: int
) -> tuple[np.ndarray | None, Iterable[np.ndarray]]:
    """All of the blocks [C, n], if they have no more than `most` samples; and the same blocks."""
    left, held = iter(blocks), []
    for block in left:
        held.append(block)
        if sum(one.shape[1] for one in held) > most:
            return None, itertools.chain(held, left)
    return np.concatenate(held, axis=1), held


def _chunks_of(encoder: Encoder) -> dict[str, Any]:
    """What `EncodedAudio` tells of the chunks that a clip was coded in."""
    if isinstance(encoder, DescriptEncoder) and encoder.is_chunked:
        return {"chunk_frames": encoder.chunk_frames, "padding": False}
    return {}


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
