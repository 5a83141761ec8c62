"""AudioCodec: everything between an audio file and its codes that is not the network."""

import io
import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from codax.codec.audio import Audio
from codax.codec.coding import Coder, fit_length
from codax.codec.dac_coder import DacCoder
from codax.codec.encodec_coder import EncodecCoder
from codax.codec.language_models import read_compressed
from codax.configuration import preset_name_of
from codax.conversion import resolve_model
from codax.errors import AudioError, FormatError
from codax.feature_extraction import (
    as_float_audio,
    gain_to_loudness,
    limit_peak,
    measure_loudness,
    mix,
    read_audio,
    resample,
)
from codax.formats import EncodedAudio
from codax.formats.encoded_audio import MAX_INPUT_DB, MAX_SAMPLING_RATE
from codax.modeling import FlaxDacModel, FlaxEncodecModel, model_class_of

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

TRAINED = "trained"
"""The loudness that the model was trained on."""


class AudioCodec:
    """A codec for files: `encode` reads, resamples, normalises and codes, `decode` goes back.

    A file gets back its sampling rate, its channels, its exact length, and with DAC its loudness
    and the balance between its channels. Codes are those of the whole clip, however long; memory
    does not grow with it, but for EnCodec's models that code a clip in one piece (24 and 32 kHz).
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

        Raises `AudioError` for audio that cannot be read, has no samples, no known rate, or a
        number of channels that the model does not take; `ValueError` for a number of codebooks or a
        bandwidth that the model does not have.
        """
        original = _load(audio, sampling_rate)
        levels = self._coder.levels(n_quantizers, bandwidth)
        loudness_db = self._checked_loudness(loudness_db)
        samples = original.samples
        if mix_channels:
            samples = mix(samples, self._coder.channels_per_stream)
        samples = resample(samples, original.sampling_rate, self.sampling_rate)
        input_db = None
        if loudness_db is not None:
            input_db = measure_loudness(samples, self.sampling_rate)
            samples = limit_peak(samples * gain_to_loudness(input_db, loudness_db))
        coded = self._coder.encode(samples.astype(np.float32), levels)
        return EncodedAudio(
            codes=coded.codes,
            sampling_rate=original.sampling_rate,
            num_samples=original.num_samples,
            input_db=input_db,
            channels_per_stream=self._coder.channels_per_stream,
            segment_frames=coded.segment_frames,
            scales=coded.scales,
            model=self.model_name,
            preset=self._preset,
            coded_samples=samples.shape[1],
        )

    def decode(self, encoded: CodesSource) -> Audio:
        """Decode a clip: a path, the bytes of a file, a file object, or an `EncodedAudio`.

        Files of descript-audio-codec and DAC-JAX decode as they do there, chunk by chunk, except
        that one gain for all channels restores the loudness, so that their balance stays.

        Raises `FormatError` for a damaged file, or codes that this model cannot have made.
        """
        clip = encoded if isinstance(encoded, EncodedAudio) else _read(encoded)
        clip.check_codes(self._coder.num_codebooks, self._coder.codebook_size)
        if clip.channels_per_stream != self._coder.channels_per_stream:
            raise FormatError(
                f"codes hold {clip.channels_per_stream} channels each, allowed: "
                f"{self._coder.channels_per_stream}, as the model codes"
            )
        samples = self._coder.decode(clip)
        decoded_s = (samples.shape[1] + self.config.hop_length) / self.sampling_rate
        if clip.num_samples > decoded_s * clip.sampling_rate + 1:
            raise FormatError(
                f"num_samples is {clip.num_samples}, allowed: up to the {decoded_s:.3f} s that "
                f"{clip.num_frames} frames hold"
            )
        samples = _restore_loudness(samples, self.sampling_rate, clip.input_db)
        samples = resample(samples, self.sampling_rate, clip.sampling_rate)
        return Audio(fit_length(samples, clip.num_samples), clip.sampling_rate)

    def _checked_loudness(self, loudness_db: float | str | None) -> float | None:
        if loudness_db == TRAINED:
            return self._coder.training_loudness_db
        if loudness_db is None:
            return None
        if isinstance(loudness_db, str) or not abs(loudness_db) <= MAX_INPUT_DB:
            raise ValueError(f"loudness_db={loudness_db} must be LUFS from -200 to 200, or None")
        return loudness_db


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
    if isinstance(source, io.TextIOBase) or not (
        isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read")
    ):
        raise FormatError(
            f"codes are read from a path, bytes or a binary file, not {type(source).__name__}"
        )
    return read_compressed(source)


def _restore_loudness(
    samples: np.ndarray, sampling_rate: int, input_db: float | tuple[float, ...] | None
) -> np.ndarray:
    """Bring samples [C, T] to the loudness that was measured before encoding, in LUFS."""
    if input_db is None:
        return samples
    if isinstance(input_db, tuple):  # a file whose streams were normalised one by one
        pairs = zip(np.split(samples, len(input_db)), input_db, strict=True)
        restored = [_restore_loudness(stream, sampling_rate, db) for stream, db in pairs]
        return np.concatenate(restored)
    gain = gain_to_loudness(measure_loudness(samples, sampling_rate), input_db)
    return (samples * gain).astype(np.float32)
