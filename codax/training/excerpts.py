"""Excerpts of audio, of which no more is read than they need.

The source of the recipe is descript-audiotools (`AudioSignal.salient_excerpt`, `AudioLoader`), by
which DAC was trained: a place is drawn at random, up to eight times until it is loud enough, the
channels are mixed, the rate is converted, and what is too short ends in silence.
"""

import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real

import numpy as np
import soundfile

from codax.codec import Audio
from codax.codec.preparing import AudioSource
from codax.errors import AudioError
from codax.feature_extraction import as_float_audio, measure_loudness, mix, resample
from codax.formats.encoded_audio import MAX_SAMPLING_RATE

LOUDNESS_CUTOFF_DB = -40.0
"""LUFS: what is not louder is drawn again, as in DAC's training."""

MOST_TRIES = 8
"""Places that are tried in a clip, of which the last is taken as it is."""

MOST_MEASURED_CHANNELS = 5
"""What BS.1770 has weights for; clips with more are measured as they are mixed."""

CONTEXT = 256
"""Samples, of the lower rate, that are read on both sides of what is resampled: 128 leave no
difference to resampling the whole clip but float32's."""


@dataclass(frozen=True)
class ExcerptShape:
    """What all excerpts have in common.

    sampling_rate: Hz, a positive integer, the model's; channels: the model's
    duration_s: seconds, of at least one sample

    Raises `ValueError` for other values.
    """

    sampling_rate: int
    channels: int
    duration_s: float

    def __post_init__(self):
        for name in ("sampling_rate", "channels"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name}={value!r} must be a positive integer")
        is_number = isinstance(self.duration_s, Real) and math.isfinite(self.duration_s)
        if not is_number or self.num_samples < 1:
            raise ValueError(
                f"duration_s={self.duration_s!r} must be seconds, of one sample at least, which "
                f"takes {1 / self.sampling_rate:.2g}"
            )

    @property
    def num_samples(self) -> int:
        return round(self.duration_s * self.sampling_rate)

    def samples_in(self, clip: "Clip") -> int:
        """How many samples the whole clip has at this rate."""
        return -(-clip.num_samples * self.sampling_rate // clip.sampling_rate)


class Clip:
    """A clip, of which parts can be read.

    sampling_rate: Hz; channels; num_samples: of the clip, as it is stored
    name: of errors

    Raises `AudioError` for a clip without samples, or of a rate that none has.
    """

    def __init__(self, content: soundfile.SoundFile | Audio, name: str):
        self.name = name
        self._content = content
        if isinstance(content, Audio):
            self.sampling_rate, self.channels = content.sampling_rate, content.channels
            self.num_samples = content.num_samples
        else:
            self.sampling_rate, self.channels = content.samplerate, content.channels
            self.num_samples = content.frames
        if not self.num_samples or not self.channels:
            raise AudioError(f"{name}: holds no samples; expected at least one")
        rate = self.sampling_rate
        if not isinstance(rate, int | np.integer) or not 1 <= rate <= MAX_SAMPLING_RATE:
            raise AudioError(f"{name}: sampling_rate={rate!r} must be an integer of 1 to 768000 Hz")

    def read(self, start: int, stop: int) -> np.ndarray:
        """float32 [C, n], from `start` to before `stop`, or to where the clip ends.

        Raises `AudioError` for samples that cannot be read, are not finite, or that a file does not
        have although it says so.
        """
        if isinstance(self._content, Audio):
            return self._content.samples[:, start:stop]
        with _explained(self.name):
            self._content.seek(start)
            block = self._content.read(stop - start, dtype="float32", always_2d=True)
        if not len(block):
            raise AudioError(
                f"{self.name}: ends before sample {start}, of {self.num_samples} that it promises"
            )
        return as_float_audio(np.ascontiguousarray(block.T), self.name)


@contextmanager
def open_clip(source: AudioSource, name: str | None = None) -> Iterator[Clip]:
    """What `codax.corpus.audio_values.audio_of` gives, opened.

    source: a path, the bytes of a file, or `Audio`
    name: of errors; by default the path, if there is one

    Raises `AudioError`, which names the clip, for what is no readable audio, and `OSError` for a
    path that cannot be opened.
    """
    is_path = isinstance(source, str | os.PathLike)
    name = name or (os.fspath(source) if is_path else "audio")
    if isinstance(source, Audio):
        samples = np.atleast_2d(as_float_audio(source.samples, name))
        if samples.ndim != 2:
            raise AudioError(f"{name}: has shape {samples.shape}; expected channels and samples")
        yield Clip(Audio(samples, source.sampling_rate), name)
        return
    with _opened(source, name) as file:
        yield Clip(file, name)


def excerpt_at(clip: Clip, start: int, shape: ExcerptShape) -> np.ndarray:
    """The excerpt float32 [C, T] that begins `start` samples, at the shape's rate, into the clip.

    It is that part of the clip resampled as a whole, however little of it is read; what the clip
    is too short for is silence.

    Raises `AudioError` as `Clip.read` does, and for channels that cannot be mixed to the shape's.
    """
    return _Passage(clip, start, shape).converted()


def salient_excerpt(
    clip: Clip,
    shape: ExcerptShape,
    generator: np.random.Generator,
    loudness_cutoff_db: float | None = LOUDNESS_CUTOFF_DB,
    tries: int = MOST_TRIES,
) -> np.ndarray:
    """A random excerpt that is louder than the cutoff, float32 [C, T].

    All places in the clip are as likely. Where `tries` of them are no louder, the last is taken.
    Source: descript-audiotools, `AudioSignal.salient_excerpt`; loudness is measured as there,
    before channels and rate are converted, of what the clip has and not of silence that is added.

    loudness_cutoff_db: LUFS, or None for the first that is drawn

    Raises `AudioError` as `excerpt_at` does, and for a rate at which there is no loudness.
    """
    last = max(shape.samples_in(clip) - shape.num_samples, 0)
    for remaining in reversed(range(tries)):
        passage = _Passage(clip, int(generator.integers(last, endpoint=True)), shape)
        if loudness_cutoff_db is None or not remaining or not last:
            break
        if passage.loudness > loudness_cutoff_db:
            break
    return passage.converted()


class _Passage:
    """The samples around an excerpt, as the clip has them.

    Where the rate is converted, the passage begins at a sample that exists at both rates, so that
    the excerpt's samples lie where those of the whole clip, resampled, do.

        clip   |----------------------------------------------------|
        passage            |------[=============]------|
                         first  context         context
    """

    def __init__(self, clip: Clip, start: int, shape: ExcerptShape):
        from_rate, to_rate = clip.sampling_rate, shape.sampling_rate
        common = math.gcd(from_rate, to_rate)
        step, step_out = from_rate // common, to_rate // common
        is_converted = from_rate != to_rate
        context = math.ceil(CONTEXT * max(1, from_rate / to_rate)) if is_converted else 0
        begin = start * from_rate // to_rate
        end = -(-(start + shape.num_samples) * from_rate // to_rate)
        first = max(begin - context, 0) // step * step
        self._clip, self._shape = clip, shape
        self._skipped = start - first // step * step_out  # samples at the shape's rate
        self._inside = slice(begin - first, end - first)
        self._samples = clip.read(first, min(end + context, clip.num_samples))

    @property
    def loudness(self) -> float:
        """LUFS of the excerpt, without the context and before it is converted."""
        samples = self._samples[:, self._inside]
        if len(samples) > MOST_MEASURED_CHANNELS:
            samples = mix(samples, self._shape.channels)
        return measure_loudness(samples, self._clip.sampling_rate)

    def converted(self) -> np.ndarray:
        """float32 [C, T]"""
        try:
            mixed = mix(self._samples, self._shape.channels)
        except AudioError as error:
            raise AudioError(f"{self._clip.name}: {error}") from error
        at_rate = resample(mixed, self._clip.sampling_rate, self._shape.sampling_rate)
        excerpt = at_rate[:, self._skipped : self._skipped + self._shape.num_samples]
        missing = self._shape.num_samples - excerpt.shape[1]
        return np.pad(excerpt, ((0, 0), (0, missing))) if missing else excerpt.copy()


@contextmanager
def _opened(source: AudioSource, name: str) -> Iterator[soundfile.SoundFile]:
    with _explained(name):
        if isinstance(source, str | os.PathLike):
            with open(source, "rb"):  # which tells better than libsndfile why a path is none
                pass
            file = soundfile.SoundFile(os.fspath(source))
        else:
            file = soundfile.SoundFile(io.BytesIO(source))  # pyright: ignore[reportArgumentType]
    with file:
        yield file


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: of a .raw file's suffix
        reason = getattr(error, "error_string", str(error)).rstrip(".")
        raise AudioError(f"{name}: cannot be read as audio: {reason}") from error
