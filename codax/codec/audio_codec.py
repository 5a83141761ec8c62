"""AudioCodec: everything between an audio file and its codes that is not the network."""

import io
import os
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from codax.codec.audio import Audio
from codax.codec.windows import windows
from codax.conversion import resolve_model
from codax.errors import AudioError, FormatError
from codax.feature_extraction import (
    as_float_audio,
    gain_to_loudness,
    limit_peak,
    measure_loudness,
    read_audio,
    resample,
)
from codax.formats import EncodedAudio, read_dac
from codax.formats.encoded_audio import MAX_INPUT_DB, MAX_SAMPLING_RATE
from codax.modeling import FlaxDacModel

AudioSource = str | os.PathLike | bytes | BinaryIO | ArrayLike | Audio
CodesSource = str | os.PathLike | bytes | BinaryIO | EncodedAudio

TRAINING_LOUDNESS_DB = -16.0
"""LUFS. What DAC was trained on, and what descript-audio-codec normalises to before encoding."""

WINDOW_S = 20.0
"""Seconds of audio that go through the network at once: memory stays bounded for any length."""


class AudioCodec:
    """A codec for files: `encode` reads, resamples, normalises and codes, `decode` goes back.

    A file gets back its sampling rate, its channels, its exact length, its loudness and the balance
    between its channels. Codes are those of the whole clip, however long: long clips are coded in
    windows that overlap by the network's receptive field.
    """

    def __init__(self, model: FlaxDacModel):
        self.model = model
        self.config = model.config

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike, **options) -> "AudioCodec":
        """Load a codec by preset name ("dac_44khz"), Hub id or folder.

        `options` are those of `FlaxDacModel.from_pretrained`. Raises `CheckpointError` for a name
        that is none of these or weights that do not fit, `OSError` where nothing can be fetched.
        """
        return cls(FlaxDacModel.from_pretrained(resolve_model(name_or_path), **options))

    @property
    def sampling_rate(self) -> int:
        """Hz, of the audio inside the network; files may have any rate."""
        return self.config.sampling_rate

    def encode(
        self,
        audio: AudioSource,
        sampling_rate: int | None = None,
        n_quantizers: int | None = None,
        loudness_db: float | None = TRAINING_LOUDNESS_DB,
    ) -> EncodedAudio:
        """Encode a clip.

        audio: a path, the bytes of a file, a binary file object, an `Audio`, or an array [T] or
            [C, T] of floats or integer PCM at `sampling_rate` Hz. Channels are coded one by one.
        n_quantizers: codebooks to use, all by default; fewer give a lower bitrate.
        loudness_db: LUFS that the clip is brought to before encoding, jointly over its channels, so
            that their balance stays; `decode` restores the loudness of the original. None: neither.

        Raises `AudioError` for audio that cannot be read, has no samples, or has no known rate;
        `ValueError` for a number of codebooks that the model does not have.
        """
        original = _load(audio, sampling_rate)
        if loudness_db is not None and not abs(loudness_db) <= MAX_INPUT_DB:
            raise ValueError(f"loudness_db={loudness_db} must be LUFS from -200 to 200, or None")
        samples = resample(original.samples, original.sampling_rate, self.sampling_rate)
        input_db = None
        if loudness_db is not None:
            input_db = measure_loudness(samples, self.sampling_rate)
            samples = limit_peak(samples * gain_to_loudness(input_db, loudness_db))
        codes = self._encode_samples(samples.astype(np.float32), n_quantizers)
        return EncodedAudio(
            codes=codes,
            sampling_rate=original.sampling_rate,
            num_samples=original.num_samples,
            input_db=input_db,
            chunk_frames=codes.shape[-1],
            padding=True,
        )

    def decode(self, encoded: CodesSource) -> Audio:
        """Decode a clip: a path, the bytes of a `.dac` file, a file object, or an `EncodedAudio`.

        Files of descript-audio-codec and DAC-JAX decode as they do there, chunk by chunk, except
        that one gain for all channels restores the loudness, so that their balance stays.

        Raises `FormatError` for a damaged file, or codes that this model cannot have made.
        """
        clip = encoded if isinstance(encoded, EncodedAudio) else _read(encoded)
        clip.check_codes(self.config.n_codebooks, self.config.codebook_size)
        duration_s = clip.num_frames / self.config.frame_rate
        if clip.num_samples > duration_s * clip.sampling_rate + 1:
            raise FormatError(
                f"num_samples is {clip.num_samples}, allowed: up to the {duration_s:.3f} s that "
                f"{clip.num_frames} frames hold"
            )
        samples = _restore_loudness(self._decode_codes(clip), self.sampling_rate, clip.input_db)
        samples = resample(samples, self.sampling_rate, clip.sampling_rate)
        return Audio(_fit_length(samples, clip.num_samples), clip.sampling_rate)

    def _encode_samples(self, samples: np.ndarray, n_quantizers: int | None) -> np.ndarray:
        """Samples float32 [C, T] at the model's rate -> codes int32 [C, K, F].

        As many frames as decode to at least T samples: with the odd strides of the 16 and 24 kHz
        models that can be one more than T makes up.
        """
        hop_length = self.config.hop_length
        num_frames = self.config.frames_to_cover(samples.shape[1])
        samples = _fit_length(samples, num_frames * hop_length)

        def encode_frames(start: int, stop: int) -> np.ndarray:
            window = samples[:, None, start * hop_length : stop * hop_length]
            return np.asarray(self.model.encode(window, n_quantizers).audio_codes)

        return self._in_windows(num_frames, self.config.encoder_context_frames, encode_frames, 1)

    def _decode_codes(self, clip: EncodedAudio) -> np.ndarray:
        """-> samples float32 [C, T] at the model's rate; T is what the model makes of the codes."""
        if not clip.padding or clip.chunk_frames < clip.num_frames:
            return self._decode_chunks(clip)

        def decode_frames(start: int, stop: int) -> np.ndarray:
            codes = clip.codes[:, :, start:stop]
            audio_values = self.model.decode(audio_codes=codes).audio_values
            # Windows that are not the last must fill their frames: odd strides leave some short.
            return _fit_length(np.asarray(audio_values), codes.shape[-1] * self.config.hop_length)

        context = self.config.decoder_context_frames
        samples = self._in_windows(clip.num_frames, context, decode_frames, self.config.hop_length)
        return samples[:, : self.config.decoded_length(clip.num_frames)]

    def _decode_chunks(self, clip: EncodedAudio) -> np.ndarray:
        """Decode descript's independently coded chunks, each alone, and join them."""
        pieces = []
        for start in range(0, clip.num_frames, clip.chunk_frames):
            codes = clip.codes[:, :, start : start + clip.chunk_frames]
            if self.config.decoded_length(codes.shape[-1], clip.padding) < 1:
                raise FormatError(
                    f"a chunk of {codes.shape[-1]} unpadded frames is too short for this model"
                )
            decoded = self.model.decode(audio_codes=codes, padded=clip.padding)
            pieces.append(np.asarray(decoded.audio_values))
        return np.concatenate(pieces, axis=-1)

    def _in_windows(
        self,
        num_frames: int,
        context: tuple[int, int],
        process: Callable[[int, int], np.ndarray],
        units_per_frame: int,
    ) -> np.ndarray:
        """Run `process(start, stop)` over windows of frames; join what is kept on the last axis."""
        size = max(round(WINDOW_S * self.config.frame_rate), 4 * sum(context))
        pieces = []
        for window in windows(num_frames, size, context):
            result = process(window.start, window.stop)
            first = (window.keep_start - window.start) * units_per_frame
            last = (window.keep_stop - window.start) * units_per_frame
            pieces.append(result[..., first:last])
        return np.concatenate(pieces, axis=-1)


def _load(audio: AudioSource, sampling_rate: int | None) -> Audio:
    given: Any = audio
    if isinstance(given, Audio):
        loaded = Audio(as_float_audio(given.samples), given.sampling_rate)
    elif isinstance(given, str | os.PathLike | bytes) or hasattr(given, "read"):
        loaded = Audio(*read_audio(given))
    elif sampling_rate is None:
        raise AudioError("audio given as an array needs its sampling_rate (Hz)")
    else:
        loaded = Audio(np.atleast_2d(as_float_audio(given)), sampling_rate)
    name = audio if isinstance(audio, str | os.PathLike) else "audio"
    if loaded.samples.ndim != 2 or 0 in loaded.samples.shape:
        raise AudioError(
            f"{name}: has shape {loaded.samples.shape}; expected channels and samples, at least one"
        )
    rate = loaded.sampling_rate
    is_integer = isinstance(rate, int | np.integer) and not isinstance(rate, bool)
    if not is_integer or not 1 <= rate <= MAX_SAMPLING_RATE:
        raise AudioError(f"{name}: sampling_rate={rate!r} must be an integer of 1 to 768000 Hz")
    if sampling_rate not in (None, loaded.sampling_rate):
        raise AudioError(
            f"{name}: is at {loaded.sampling_rate} Hz, but sampling_rate={sampling_rate}"
        )
    return loaded


def _read(source: str | os.PathLike | bytes | BinaryIO) -> EncodedAudio:
    if isinstance(source, str | os.PathLike):
        return EncodedAudio.load(source)
    if isinstance(source, io.TextIOBase) or not (
        isinstance(source, bytes) or hasattr(source, "read")
    ):
        raise FormatError(
            f"codes are read from a path, bytes or a binary file, not {type(source).__name__}"
        )
    return read_dac(source)


def _restore_loudness(
    samples: np.ndarray, sampling_rate: int, input_db: float | tuple[float, ...] | None
) -> np.ndarray:
    """Bring samples [C, T] to the loudness that was measured before encoding, in LUFS."""
    if input_db is None:
        return samples
    if isinstance(input_db, tuple):  # a file whose channels were normalised one by one
        pairs = zip(samples, input_db, strict=True)
        restored = [_restore_loudness(one[None], sampling_rate, db) for one, db in pairs]
        return np.concatenate(restored)
    gain = gain_to_loudness(measure_loudness(samples, sampling_rate), input_db)
    return (samples * gain).astype(np.float32)


def _fit_length(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """[C, T] -> [C, num_samples], cropped or filled with zeros at the end."""
    samples = samples[:, :num_samples]
    return np.pad(samples, ((0, 0), (0, num_samples - samples.shape[1])))
