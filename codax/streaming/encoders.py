"""Samples at a model's rate to codes, piece by piece, with the codes of the whole clip."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from codax.configuration.conv_geometry import input_span
from codax.modeling import FlaxEncodecModel
from codax.modeling.chunking import one_ahead
from codax.modeling.devices import on_host
from codax.streaming.coded_frames import CodedFrames
from codax.streaming.networks import encoder_convs, encoder_network
from codax.streaming.sliding import Sliding, steps_up_to


class Latency(NamedTuple):
    """Samples at the model's rate, that must be there before what they determine is given out.

    first: from the beginning of a stream, before anything is
    later: for each frame (or segment), from its beginning on
    """

    first: int
    later: int

    def in_ms(self, sampling_rate: int) -> tuple[float, float]:
        return 1000 * self.first / sampling_rate, 1000 * self.later / sampling_rate


NEVER = Latency(*[np.iinfo(np.int64).max] * 2)
"""Of models that need all of a clip."""


class Encoder(ABC):
    """Samples float32 [C, T] in pieces of any length in, codes out as soon as they are certain."""

    @property
    @abstractmethod
    def latency(self) -> Latency: ...

    @abstractmethod
    def push(self, samples: np.ndarray) -> CodedFrames:
        """What is determined now and was not before; perhaps no frames."""

    @abstractmethod
    def flush(self) -> CodedFrames:
        """The rest, once the clip has ended. What ends inside a frame is filled up with silence."""

    def run(self, pieces: Iterable[np.ndarray]) -> Iterator[CodedFrames]:
        """A whole clip."""
        for piece in pieces:
            yield self.push(piece)
        yield self.flush()


def encoder_of(
    model: Any, levels: int, chunk_frames: int, streams: int, eager: bool = True
) -> Encoder:
    """What encodes clips with a model.

    levels: codebooks to use
    chunk_frames: frames that are encoded at a time at most, if so many are there
    streams: clips of the batch; a clip has `audio_channels` channels, with DAC one
    eager: give out all that is determined. If not, wait for `chunk_frames`, which compiles and
        computes less.
    """
    if isinstance(model, FlaxEncodecModel):
        if model.config.segmenting is not None:
            return SegmentEncoder(model, levels, chunk_frames, streams, eager)
        if model.config.codes_whole_clips:
            return WholeEncoder(model, levels, streams)
    return WindowEncoder(model, levels, chunk_frames, streams, eager)


class WindowEncoder(Encoder):
    """Of models without segments, in windows with their context."""

    def __init__(self, model: Any, levels: int, chunk_frames: int, streams: int, eager: bool):
        self._config = model.config
        self._streams = streams
        network = encoder_network(model, levels)
        self._none = np.zeros((streams, levels, 0), np.int32)
        at_once = model.chunks_at_once(streams)
        self._windows = Sliding(network, chunk_frames, at_once, eager)
        self._received = 0
        self._model, self._network = model, network

    @property
    def latency(self) -> Latency:
        needed = range(1, self._config.receptive_field + self._config.hop_length + 1)
        return Latency(
            first=next(samples for samples in needed if self._network.determined(samples)),
            later=input_span(encoder_convs(self._model), 0, 1)[1],
        )

    def push(self, samples: np.ndarray) -> CodedFrames:
        return self._joined(self._windows.push(self._batch(samples)))

    def flush(self) -> CodedFrames:
        filled = self._windows.push(self._rest())
        return self._joined([*filled, *self._windows.flush()])

    def run(self, pieces: Iterable[np.ndarray]) -> Iterator[CodedFrames]:
        yield from map(CodedFrames, self._windows.fed(map(self._batch, pieces)))
        yield self.flush()

    def _batch(self, samples: np.ndarray) -> np.ndarray:
        self._received += samples.shape[1]
        return _by_stream(samples, self._streams)

    def _rest(self) -> np.ndarray:
        """Silence that DAC's last frame lacks; EnCodec's convolutions mind where a clip ends."""
        missing = 0
        if hasattr(self._config, "frames_to_cover") and self._received:
            num_frames = self._config.frames_to_cover(self._received)
            missing = num_frames * self._config.hop_length - self._received
        channels = self._config.audio_channels
        return np.zeros((self._streams, channels, missing), np.float32)

    def _joined(self, pieces: list[np.ndarray]) -> CodedFrames:
        return CodedFrames(np.concatenate([self._none, *pieces], axis=-1))


class SegmentEncoder(Encoder):
    """Of the 48 kHz EnCodec: segments, each by itself."""

    def __init__(self, model: Any, levels: int, chunk_frames: int, streams: int, eager: bool):
        self._model, self._config = model, model.config
        self._eager = eager
        self._levels = levels
        self._streams = streams
        self._at_once = max(1, round(chunk_frames * self._config.hop_length / self._stride))
        self._at_once *= model.chunks_at_once(streams)
        self._samples = np.zeros((streams, self._config.audio_channels, 0), np.float32)
        self._done = 0  # segments
        self._received = 0

    @property
    def latency(self) -> Latency:
        return Latency(self._size, self._size)

    @property
    def _size(self) -> int:
        return self._config.segmenting.length

    @property
    def _stride(self) -> int:
        return self._config.segmenting.stride

    def push(self, samples: np.ndarray) -> CodedFrames:
        return self._joined(one_ahead(self._complete(samples)))

    def flush(self) -> CodedFrames:
        lengths = [length for _, length in self._config.segments(self._received)][self._done :]
        return self._joined(self._encoded(lengths))

    def run(self, pieces: Iterable[np.ndarray]) -> Iterator[CodedFrames]:
        made = (group for piece in pieces for group in self._complete(piece))
        for group in one_ahead(made):
            yield self._joined([group])
        yield self.flush()

    def _complete(self, samples: np.ndarray) -> Iterator[tuple[list[int], Any]]:
        """Segments that have come to their end."""
        self._received += samples.shape[1]
        piece = _by_stream(samples, self._streams)
        self._samples = np.concatenate([self._samples, piece], axis=-1)
        count = (self._samples.shape[-1] - self._size) // self._stride + 1
        count = max(count, 0) if self._eager else max(count, 0) // self._at_once * self._at_once
        yield from self._encoded([self._size] * count)

    def _encoded(self, lengths: list[int]) -> Iterator[tuple[list[int], Any]]:
        """The next segments, of so many samples; codes [S * N, K, F] and scales [S * N, 1]."""
        while lengths:
            group, lengths = lengths[: self._at_once], lengths[self._at_once :]
            # Few programs are compiled: some segments more, which are silent.
            count = next(size for size in steps_up_to(self._at_once) if size >= len(group))
            segments = np.zeros((count, *self._samples.shape[:2], self._size), np.float32)
            for index, (row, length) in enumerate(zip(segments, group, strict=False)):
                piece = self._samples[..., index * self._stride :][..., :length]
                row[..., : piece.shape[-1]] = piece
            own_lengths = np.zeros((count, self._streams), np.int32)
            own_lengths[: len(group)] = np.array(group)[:, None]
            flat = segments.reshape(-1, *segments.shape[2:]).swapaxes(1, 2)
            encoded = self._model.encode_segments(flat, own_lengths.reshape(-1), self._levels)
            self._samples = self._samples[..., len(group) * self._stride :]
            self._done += len(group)
            yield group, encoded

    def _joined(self, groups: Iterable[tuple[list[int], Any]]) -> CodedFrames:
        codes = [np.zeros((self._streams, self._levels, 0), np.int32)]
        scales = [np.zeros((self._streams, 0), np.float32)]
        frames = []
        for lengths, encoded in groups:
            counts = [self._config.encoded_length(length) for length in lengths]
            rows = on_host(encoded.codes).reshape(-1, self._streams, *encoded.codes.shape[1:])
            codes += [row[..., :count] for row, count in zip(rows, counts, strict=False)]
            frames += counts
            if encoded.scales is not None:
                by_segment = on_host(encoded.scales).reshape(-1, self._streams)
                scales.append(by_segment[: len(lengths)].T)
        has_scales = self._config.normalize
        return CodedFrames(
            np.concatenate(codes, axis=-1),
            tuple(frames),
            np.concatenate(scales, axis=-1) if has_scales else None,
        )


class WholeEncoder(Encoder):
    """Of models in which every frame depends on all of a clip, which is held until its end."""

    def __init__(self, model: Any, levels: int, streams: int):
        self._model = model
        self._levels = levels
        self._streams = streams
        self._pieces: list[np.ndarray] = []

    @property
    def latency(self) -> Latency:
        return NEVER

    def push(self, samples: np.ndarray) -> CodedFrames:
        self._pieces.append(samples)
        return self._coded(np.zeros((self._streams, self._levels, 0), np.int32), None)

    def flush(self) -> CodedFrames:
        if not self._pieces:
            return self._coded(np.zeros((self._streams, self._levels, 0), np.int32), None)
        samples = np.concatenate(self._pieces, axis=-1)
        batch = _by_stream(samples, self._streams).swapaxes(1, 2)
        encoded = self._model.encode_segments(batch, num_quantizers=self._levels)
        return self._coded(on_host(encoded.codes), encoded.scales)

    def _coded(self, codes: np.ndarray, scales: Any) -> CodedFrames:
        if not self._model.config.normalize:
            return CodedFrames(codes)
        none = np.zeros((self._streams, 0), np.float32)
        return CodedFrames(codes, scales=none if scales is None else on_host(scales))


def _by_stream(samples: np.ndarray, streams: int) -> np.ndarray:
    """[N * C, T] -> [N, C, T]."""
    return samples.reshape(streams, len(samples) // streams, samples.shape[1])
