"""Audio from a microphone to codes, and codes to a loudspeaker, as they come."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from codax.configuration.config_fields import is_int
from codax.errors import AudioError, FormatError
from codax.feature_extraction import Resampler, as_float_audio
from codax.streaming.coded_frames import CodedFrames, join_frames
from codax.streaming.decoders import decoder_of
from codax.streaming.encoders import Latency, encoder_of


class _Stream:
    """Of either direction: it ends once."""

    _has_ended = False

    def _require_open(self) -> None:
        """Raise `ValueError` after `flush`."""
        if self._has_ended:
            raise ValueError("the stream has been flushed: make another one")


class StreamEncoder(_Stream):
    """Audio in pieces of any length to the codes of the whole.

    `push` gives all frames that are determined so far and were not given before; `flush` ends the
    stream and gives the rest. Memory does not grow with the stream. A piece of many frames costs
    less than many pieces: each brings the context that its frames depend on along.

    latency: samples at the model's rate that must be there, from the beginning of a frame on,
        before its codes are given out. Resampling adds its own.
    """

    def __init__(
        self,
        model: Any,
        levels: int,
        chunk_frames: int,
        sampling_rate: int | None = None,
        channels: int | None = None,
        gain: float = 1.0,
    ):
        per_stream = model.config.audio_channels
        self.sampling_rate = _given(sampling_rate, model.config.sampling_rate, "sampling_rate")
        self.channels = _given(channels, per_stream, "channels")
        if self.channels % per_stream:
            raise AudioError(
                f"the audio has {self.channels} channels, but the model takes {per_stream}"
            )
        self._gain = np.float32(gain)
        self._model_rate = model.config.sampling_rate
        self._resampler = Resampler(self.sampling_rate, self._model_rate, self.channels)
        self._encoder = encoder_of(model, levels, chunk_frames, self.channels // per_stream)

    @property
    def latency(self) -> Latency:
        return self._encoder.latency

    @property
    def latency_ms(self) -> tuple[float, float]:
        """`latency` in milliseconds: of the first frame, and of every later one."""
        return self.latency.in_ms(self._model_rate)

    def push(self, audio: ArrayLike) -> CodedFrames:
        """Floats or integer PCM, [T] or [C, T], T any number, at `sampling_rate`.

        Raises `AudioError` for another number of channels, another type, and for NaN or infinity;
        `ValueError` after `flush`.
        """
        self._require_open()
        samples = np.atleast_2d(as_float_audio(audio))
        if samples.ndim != 2 or len(samples) != self.channels:
            raise AudioError(
                f"a piece of audio has shape {samples.shape}; expected [{self.channels}, samples]"
            )
        return self._encoder.push(self._resampler.push(samples) * self._gain)

    def flush(self) -> CodedFrames:
        """The codes that are left, of audio that has come to its end."""
        self._require_open()
        self._has_ended = True
        rest = self._resampler.flush() * self._gain
        pieces = [self._encoder.push(rest), self._encoder.flush()]
        return join_frames(pieces)

    def run(self, pieces: Iterable[ArrayLike]) -> Iterator[CodedFrames]:
        """`push` for each of `pieces`, for instance of a microphone, then `flush`."""
        yield from map(self.push, pieces)
        yield self.flush()


class StreamDecoder(_Stream):
    """Codes in pieces of any number of frames to the audio of the whole.

    `push` gives all samples that are determined so far, at `sampling_rate`, and `flush` the rest.

    latency: samples at the model's rate by which the audio stays behind the frames that are there
    """

    def __init__(
        self,
        model: Any,
        chunk_frames: int,
        sampling_rate: int | None = None,
        channels: int | None = None,
    ):
        config = model.config
        per_stream = config.audio_channels
        self.channels = _given(channels, per_stream, "channels")
        if self.channels % per_stream:
            raise AudioError(
                f"channels={self.channels}, but codes of this model hold {per_stream} each"
            )
        self.sampling_rate = _given(sampling_rate, config.sampling_rate, "sampling_rate")
        self._config = config
        self._streams = self.channels // per_stream
        self._decoder = decoder_of(model, chunk_frames, self._streams)
        self._resampler = Resampler(config.sampling_rate, self.sampling_rate, self.channels)
        self._codebooks = 0  # that the codes use, once there are some

    @property
    def latency(self) -> Latency:
        return self._decoder.latency

    @property
    def latency_ms(self) -> tuple[float, float]:
        """`latency` in milliseconds: of the first audio, and of all later."""
        return self.latency.in_ms(self._config.sampling_rate)

    def push(self, frames: CodedFrames | ArrayLike) -> np.ndarray:
        """What a `StreamEncoder` gives, or codes alone, [K, F] or [N, K, F] -> float32 [C, T].

        Raises `FormatError` for codes that the model cannot have made, `ValueError` after `flush`.
        """
        self._require_open()
        return self._resampler.push(self._decoder.push(self._checked(frames)))

    def flush(self) -> np.ndarray:
        """The audio that is left, float32 [C, T]."""
        self._require_open()
        self._has_ended = True
        rest = self._resampler.push(self._decoder.flush())
        return np.concatenate([rest, self._resampler.flush()], axis=1)

    def run(self, pieces: Iterable[CodedFrames | ArrayLike]) -> Iterator[np.ndarray]:
        """`push` for each of `pieces`, for instance of a language model, then `flush`."""
        yield from map(self.push, pieces)
        yield self.flush()

    def _checked(self, frames: CodedFrames | ArrayLike) -> CodedFrames:
        given = frames if isinstance(frames, CodedFrames) else CodedFrames(np.asarray(frames))
        codes = given.codes[None] if given.codes.ndim == 2 else given.codes
        if codes.ndim != 3 or len(codes) != self._streams or codes.dtype.kind not in "iu":
            raise FormatError(
                f"codes have shape {codes.shape} and type {codes.dtype}, allowed: integers "
                f"[{self._streams}, codebooks, frames]"
            )
        most = getattr(self._config, "n_codebooks", 0) or self._config.num_quantizers
        if not 1 <= codes.shape[1] <= most:
            raise FormatError(f"codes use {codes.shape[1]} codebooks, allowed: up to {most}")
        if (given.scales is not None) != getattr(self._config, "normalize", False):
            raise FormatError(
                "scales are given, which this model does not have"
                if given.scales is not None
                else "scales are missing, which this model needs"
            )
        size = self._config.codebook_size
        if codes.size and not 0 <= codes.min() <= codes.max() < size:
            raise FormatError(
                f"codes reach from {codes.min()} to {codes.max()}, allowed: 0 to {size - 1}"
            )
        if codes.shape[-1] and codes.shape[1] != (self._codebooks or codes.shape[1]):
            raise FormatError(
                f"codes use {codes.shape[1]} codebooks, those before them {self._codebooks}"
            )
        self._codebooks = codes.shape[1] if codes.shape[-1] else self._codebooks
        return given._replace(codes=codes.astype(np.int32))


def _given(value: int | None, default: int, name: str) -> int:
    if value is None:
        return default
    if not is_int(value) or value < 1:
        raise AudioError(f"{name}={value!r} must be a positive integer")
    return value
