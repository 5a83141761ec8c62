"""Clips as the parts in which EnCodec codes many of them at once: whole, or in its segments."""

import numpy as np

from codax.codec.batches import Network, Part, Work
from codax.codec.coding import CHUNK_S
from codax.formats import EncodedAudio
from codax.modeling import FlaxEncodecModel
from codax.modeling.segments import OverlapAdd
from codax.streaming import CodedFrames

WHOLE_S = 30.0
"""Seconds up to which a clip is coded whole. A longer one hands the LSTM's state on from chunk to
chunk, which nothing beside it can do."""


class EncodecParts:
    """A `Parts`."""

    def __init__(self, model: FlaxEncodecModel, chunk_length_s: float | None = None):
        self._model, self._config = model, model.config
        self._channels = self._config.audio_channels
        if self._config.segmenting is not None:
            longest = self._config.encoded_length(self._config.segmenting.length)
        else:
            longest = self._config.encode_chunk_frames(max(chunk_length_s or CHUNK_S, WHOLE_S))
        self.longest_to_encode = self.longest_to_decode = longest

    def encoder(self, levels: int) -> Network:
        """See `Parts`."""
        return lambda samples, lengths, _: tuple(
            self._model.encode_segments(samples.swapaxes(1, 2), lengths, levels)
        )

    def to_encode(self, samples: np.ndarray) -> Work | None:
        """See `Parts`."""
        num_samples = samples.shape[1]
        streams = samples.reshape(-1, self._channels, num_samples)
        spans = ((0, num_samples),)
        if self._config.segmenting is not None:
            spans = self._config.segments(num_samples)
        elif self._is_too_long(self._config.encoded_length(num_samples)):
            return None
        counts = [self._config.encoded_length(length) for _, length in spans]
        parts = [
            Part(stream[:, start : start + length], length, frames, slice(frames))
            for stream in streams
            for (start, length), frames in zip(spans, counts, strict=True)
        ]

        shape = len(streams), len(spans)

        def joined(outputs: list[tuple]) -> CodedFrames:
            codes, scales = zip(*outputs, strict=True)
            by_stream = [codes[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]
            return CodedFrames(
                np.stack([np.concatenate(segments, axis=-1) for segments in by_stream]),
                None if self._config.segmenting is None else tuple(counts),
                None if scales[0] is None else np.reshape(scales, shape),
            )

        return Work(parts, joined)

    def decoder(self) -> Network:
        """See `Parts`."""

        def run(codes, num_frames, scales) -> tuple:
            return (self._model.decode_segments(codes, scales, num_frames).swapaxes(1, 2),)

        return run

    def to_decode(self, clip: EncodedAudio) -> Work | None:
        """See `Parts`."""
        segmenting = self._config.segmenting
        frames = clip.segment_frames or (clip.num_frames,)
        if segmenting is None and self._is_too_long(clip.num_frames):
            return None
        parts = []
        for row, codes in enumerate(clip.codes):
            for index, segment in enumerate(np.split(codes, np.cumsum(frames)[:-1], axis=-1)):
                scale = None if clip.scales is None else clip.scales[row, index : index + 1]
                kept = slice(self._config.decoded_length(frames[index]))
                parts.append(Part(segment, frames[index], frames[index], kept, scale))

        def joined(outputs: list[tuple]) -> np.ndarray:
            audio = [samples for (samples,) in outputs]
            if segmenting is None:
                return np.concatenate(audio)
            each = len(frames)
            by_segment = [np.stack(audio[index::each]) for index in range(each)]
            return _overlapped(by_segment, segmenting.stride).reshape(clip.channels, -1)

        return Work(parts, joined)

    def _is_too_long(self, num_frames: int) -> bool:
        return num_frames > self.longest_to_encode and not self._config.codes_whole_clips


def _overlapped(segments: list[np.ndarray], stride: int) -> np.ndarray:
    """Segments [N, C, n] of a clip -> [N, C, T]."""
    lengths = [np.full(len(segment), segment.shape[-1]) for segment in segments]
    adding = OverlapAdd(stride, lengths[0])
    pieces = [adding.push(*one) for one in zip(segments, lengths, strict=True)]
    audio = np.concatenate([*pieces, adding.flush()], axis=-1)
    return audio[..., : (len(segments) - 1) * stride + segments[-1].shape[-1]]
