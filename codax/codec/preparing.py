"""Clips as they go into a network: at its rate, with its channels, at the loudness it knows."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from codax.codec.audio import Audio
from codax.errors import AudioError, told_of
from codax.feature_extraction import (
    AudioBlocks,
    LoudnessMeter,
    Resampler,
    as_float_audio,
    gain_to_loudness,
    gain_to_peak,
    mix,
)
from codax.formats.encoded_audio import MAX_INPUT_DB, MAX_SAMPLING_RATE

AudioSource = str | os.PathLike | bytes | BinaryIO | ArrayLike | Audio

TRAINED = "trained"
"""The loudness that the model was trained on."""

BLOCK = 1 << 20
"""Samples of an array that are prepared at a time."""

# What reading audio may raise that is no fault of the program: torchcodec has RuntimeErrors, and a
# path with a null character ValueErrors, as codax has.
BAD_AUDIO = (ValueError, OSError, RuntimeError, MemoryError)


@contextmanager
def naming(name: str | os.PathLike | None) -> Iterator[None]:
    """What reading audio raises becomes an `AudioError`, which begins with its name, if any."""
    try:
        yield
    except BAD_AUDIO as error:
        raise AudioError(told_of(name, error)) from error


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How audio of any kind becomes what a model takes.

    sampling_rate: Hz, of the model
    channels_per_stream: how many channels the model codes at once; a clip has a multiple of it
    loudness_db: LUFS to bring each clip to, all its channels together; None leaves it as it is
    mix_channels: mix to `channels_per_stream`
    resample: convert audio of another rate, rather than refuse it
    """

    sampling_rate: int
    channels_per_stream: int
    loudness_db: float | None = None
    mix_channels: bool = False
    resample: bool = True

    def of(
        self,
        audio: AudioSource,
        sampling_rate: int | None = None,
        name: str | os.PathLike | None = None,
    ) -> "PreparedClip":
        """What `AudioCodec.encode` takes, prepared while it is read.

        name: that errors of reading it begin with, where it is no path

        Raises `AudioError` for audio that cannot be read, has no samples, no known rate, another
        rate where `resample` is False, or a number of channels that the model does not take.
        """
        source = _Source.of(audio, sampling_rate)
        if not self.resample and source.sampling_rate != self.sampling_rate:
            raise AudioError(
                f"{source.name}: is at {source.sampling_rate} Hz, but the model takes "
                f"{self.sampling_rate} Hz; resample=True converts it"
            )
        if not self.mix_channels and source.channels % self.channels_per_stream:
            raise AudioError(
                f"the audio has {source.channels} channels, but the model takes "
                f"{self.channels_per_stream}; mix_channels=True (--mix) converts it"
            )
        return PreparedClip(self, source, name)


class Original(NamedTuple):
    """What a clip's codes go along with.

    sampling_rate: Hz; num_samples; input_db: LUFS, or None where the loudness stays, all of the
        original; coded_samples: how many it has at the model's rate
    """

    sampling_rate: int
    num_samples: int
    input_db: float | None
    coded_samples: int


class PreparedClip:
    """Audio that is prepared while it is read, as often as one iterates over it.

    sampling_rate: Hz, of the original; channels: that are coded; input_db: LUFS of the original, or
        None where its loudness stays
    num_samples, coded_samples: of the original, and at the model's rate, once it was read
    name: of a file, that errors begin with, or None
    iterating: blocks float32 [C, n] at the model's rate. Raises `AudioError` for audio that cannot
        be read, is not finite, or has no samples.
    """

    def __init__(self, how: Preparation, source: "_Source", name: str | os.PathLike | None = None):
        self._how = how
        self._source = source
        self.name = name
        self.sampling_rate = source.sampling_rate
        self.channels = how.channels_per_stream if how.mix_channels else source.channels
        self.input_db: float | None = None
        self.num_samples = self.coded_samples = 0

    @property
    def original(self) -> Original:
        """Known once all of it was read."""
        return Original(self.sampling_rate, self.num_samples, self.input_db, self.coded_samples)

    def __iter__(self) -> Iterator[np.ndarray]:
        with naming(self.name):
            gains = self._gains()
            self.coded_samples = 0
            for block in self._at_rate():
                for gain in gains:
                    block = block * gain
                self.coded_samples += block.shape[1]
                yield block
            self._require_samples(self.coded_samples)

    def loaded(self, most: int) -> "LoadedClip | None":
        """All of it in memory, unless it has more than `most` samples in all channels."""
        blocks = [np.zeros((self.channels, 0), np.float32)]
        for block in self:
            blocks.append(block)
            if self.coded_samples * self.channels > most:
                return None
        with naming(self.name):
            samples = np.concatenate(blocks, axis=1)
        return LoadedClip(samples, self.sampling_rate, self.num_samples, self.input_db, self.name)

    def _gains(self) -> tuple[float, ...]:
        """What brings it to a loudness, turned down where it would exceed 1."""
        if self._how.loudness_db is None:
            return ()
        meter = LoudnessMeter(self._how.sampling_rate, self.channels)
        for block in self._at_rate():
            meter.push(block)
        self.input_db = meter.loudness
        gain = gain_to_loudness(meter.loudness, self._how.loudness_db)
        return gain, gain_to_peak(float(np.float32(meter.peak) * gain))

    def _at_rate(self) -> Iterator[np.ndarray]:
        resampler = Resampler(self.sampling_rate, self._how.sampling_rate, self.channels)
        return resampler.run(self._mixed())

    def _mixed(self) -> Iterator[np.ndarray]:
        self.num_samples = 0
        for block in self._source.blocks:
            self.num_samples += block.shape[1]
            yield mix(block, self.channels) if self._how.mix_channels else block
        self._require_samples(self.num_samples)

    def _require_samples(self, count: int) -> None:
        if not count:
            raise AudioError(f"{self._source.name}: holds no samples; expected at least one")


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedClip:
    """A clip that was prepared: samples float32 [C, T] at the model's rate.

    sampling_rate, num_samples, input_db: of the original, and its name, as in `PreparedClip`
    """

    samples: np.ndarray
    sampling_rate: int
    num_samples: int
    input_db: float | None
    name: str | os.PathLike | None = None

    @property
    def original(self) -> Original:
        """What is known of it without its samples."""
        num_coded = self.samples.shape[1]
        return Original(self.sampling_rate, self.num_samples, self.input_db, num_coded)

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        yield self.samples


def checked_loudness(loudness_db: float | str | None, trained: float | None) -> float | None:
    """LUFS or None. Raises `ValueError` for what no signal has. trained: what `TRAINED` means."""
    if loudness_db == TRAINED:
        return trained
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
