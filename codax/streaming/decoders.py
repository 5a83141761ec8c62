"""Codes to samples at a model's rate, piece by piece, with the audio of the whole clip."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from codax.errors import FormatError
from codax.modeling import FlaxEncodecModel
from codax.modeling.devices import on_host
from codax.modeling.segments import OverlapAdd
from codax.streaming.coded_frames import CodedFrames, join_frames
from codax.streaming.encoders import NEVER, Latency
from codax.streaming.networks import decoder_network
from codax.streaming.sliding import Sliding


class Decoder(ABC):
    """Codes in pieces of any number of frames in, samples float32 [C, T] out once certain.

    latency: in samples of audio: how far the frames that are there reach beyond the audio that
        they determine, at the beginning until there is any, and later
    """

    @property
    @abstractmethod
    def latency(self) -> Latency: ...

    @abstractmethod
    def push(self, frames: CodedFrames) -> np.ndarray:
        """What is determined now and was not before; perhaps no samples."""

    @abstractmethod
    def flush(self) -> np.ndarray:
        """The rest, once there are no more codes."""


def decoder_of(model: Any, chunk_frames: int, streams: int) -> Decoder:
    """What decodes clips with a model; the arguments are those of `encoder_of`."""
    if isinstance(model, FlaxEncodecModel):
        if model.config.segmenting is not None:
            return SegmentDecoder(model, streams)
        if model.config.codes_whole_clips:
            return WholeDecoder(model, streams)
    return WindowDecoder(model, chunk_frames, streams)


class WindowDecoder(Decoder):
    """Of models without segments, in windows with their context."""

    def __init__(self, model: Any, chunk_frames: int, streams: int):
        network = decoder_network(model)
        channels = model.config.audio_channels
        self._none = np.zeros((streams * channels, 0), np.float32)
        self._windows = Sliding(network, chunk_frames, model.chunks_at_once(streams))
        self._network = network

    @property
    def latency(self) -> Latency:
        network, hop_length = self._network, self._network.out_units
        many = 10 * (1 + sum(network.context))
        first = next(frames for frames in range(1, many) if network.determined(frames))
        return Latency(first * hop_length, later=many * hop_length - network.determined(many))

    def push(self, frames: CodedFrames) -> np.ndarray:
        return self._joined(self._windows.push(frames.codes))

    def flush(self) -> np.ndarray:
        return self._joined(self._windows.flush())

    def _joined(self, pieces: list[np.ndarray]) -> np.ndarray:
        flat = [piece.reshape(len(self._none), -1) for piece in pieces]
        return np.concatenate([self._none, *flat], axis=-1)


class SegmentDecoder(Decoder):
    """Of the 48 kHz EnCodec: segments, which fade into each other."""

    def __init__(self, model: Any, streams: int):
        self._model, self._config = model, model.config
        self._streams = streams
        self._adding: OverlapAdd | None = None
        self._last_length = 0  # samples of the segment that came last

    @property
    def latency(self) -> Latency:
        length, stride = self._config.segmenting
        return Latency(first=length, later=length - stride)

    def push(self, frames: CodedFrames) -> np.ndarray:
        counts = frames.segment_frames
        if counts is None or sum(counts) != frames.num_frames:
            raise FormatError(
                f"segment_frames is {counts!r}, allowed: the frames of whole segments, "
                f"{frames.num_frames} in all"
            )
        self._check_segments(frames, counts)
        pieces = [self._nothing]
        starts = np.cumsum((0, *counts))
        longest = self._config.encoded_length(self._config.segmenting.length)
        for index, (start, count) in enumerate(zip(starts, counts, strict=False)):
            codes = np.zeros((*frames.codes.shape[:2], longest), np.int32)
            codes[..., :count] = frames.codes[..., start : start + count]
            scales = None if frames.scales is None else frames.scales[:, index : index + 1]
            lengths = np.full(self._streams, count, np.int32)
            decoded = on_host(self._model.decode_segments(codes, scales, lengths))
            samples = lengths * self._config.hop_length
            if self._adding is None:
                self._adding = OverlapAdd(self._config.segmenting.stride, samples)
            self._last_length = count * self._config.hop_length
            piece = self._adding.push(decoded.swapaxes(1, 2), samples)
            pieces.append(piece[..., : self._last_length])
        return self._joined(pieces)

    def flush(self) -> np.ndarray:
        rest = []
        if self._adding is not None:
            left = max(self._last_length - self._config.segmenting.stride, 0)
            rest = [self._adding.flush()[..., :left]]
        return self._joined([self._nothing, *rest])

    def _check_segments(self, frames: CodedFrames, counts: tuple[int, ...]) -> None:
        config = self._config
        longest = config.encoded_length(config.segmenting.length)
        shortest = config.segmenting.stride // config.hop_length + 1
        has_ended = 0 < self._last_length < shortest * config.hop_length
        if counts and (has_ended or min(counts[:-1], default=longest) < shortest):
            raise FormatError(f"a segment of fewer than {shortest} frames is not the last one")
        if not all(0 < count <= longest for count in counts):
            raise FormatError(f"segment_frames is {counts}, allowed: 1 to {longest} each")
        scales = frames.scales
        if scales is not None:
            expected = (self._streams, len(counts))
            if np.shape(scales) != expected or not np.isfinite(scales).all():
                raise FormatError(
                    f"scales have shape {np.shape(scales)}, allowed: finite numbers {expected}"
                )

    @property
    def _nothing(self) -> np.ndarray:
        return np.zeros((self._streams, self._config.audio_channels, 0), np.float32)

    def _joined(self, pieces: list[np.ndarray]) -> np.ndarray:
        audio = np.concatenate(pieces, axis=-1)
        return audio.reshape(self._streams * self._config.audio_channels, -1)


class WholeDecoder(Decoder):
    """Of models in which all of a clip depends on every frame: nothing is known before its end."""

    def __init__(self, model: Any, streams: int):
        self._model = model
        self._channels = streams * model.config.audio_channels
        self._pieces: list[CodedFrames] = []

    @property
    def latency(self) -> Latency:
        return NEVER

    def push(self, frames: CodedFrames) -> np.ndarray:
        self._pieces.append(frames)
        return np.zeros((self._channels, 0), np.float32)

    def flush(self) -> np.ndarray:
        if not self._pieces:
            return np.zeros((self._channels, 0), np.float32)
        frames = join_frames(self._pieces)
        decoded = on_host(self._model.decode_segments(frames.codes, frames.scales))
        return decoded.swapaxes(1, 2).reshape(self._channels, -1)
