"""EnCodec for clips: in one piece, or for the 48 kHz model in segments."""

from collections.abc import Callable

import numpy as np

from codax.codec.coding import Coded
from codax.configuration.config_fields import is_int
from codax.errors import AudioError, FormatError
from codax.formats import EncodedAudio
from codax.modeling import FlaxEncodecModel
from codax.modeling.segments import overlap_add

DEFAULT_BANDWIDTH = 6.0
"""kbps; the default of the authors' command."""

SEGMENTS_AT_ONCE = 16
"""Segments that go through the network together: its memory stays bounded for any length."""


class EncodecCoder:
    """A `Coder`. A mono model codes each channel by itself, a stereo model both as one stream."""

    training_loudness_db = None

    def __init__(self, model: FlaxEncodecModel):
        self.model = model
        self.config = model.config
        self.num_codebooks = model.config.num_quantizers
        self.codebook_size = model.config.codebook_size
        self.channels_per_stream = model.config.audio_channels

    def levels(self, n_quantizers: int | None, bandwidth: float | None) -> int:
        """See `Coder`: by default those of `DEFAULT_BANDWIDTH`, or of the highest bandwidth."""
        if n_quantizers is not None and bandwidth is not None:
            raise ValueError(f"n_quantizers={n_quantizers} and bandwidth={bandwidth}: give one")
        if n_quantizers is not None:
            if not is_int(n_quantizers) or not 1 <= n_quantizers <= self.num_codebooks:
                raise ValueError(
                    f"n_quantizers={n_quantizers!r} must be an integer from 1 to "
                    f"{self.num_codebooks}"
                )
            return n_quantizers
        bandwidths = self.config.target_bandwidths
        default = DEFAULT_BANDWIDTH if DEFAULT_BANDWIDTH in bandwidths else bandwidths[-1]
        return self.config.checked_quantizers(default if bandwidth is None else bandwidth)

    def encode(self, samples: np.ndarray, levels: int) -> Coded:
        """See `Coder`."""
        if self.channels_per_stream not in (1, len(samples)):
            raise AudioError(
                f"the audio has {len(samples)} channels, but the model takes "
                f"{self.channels_per_stream}; mix_channels=True (--mix) converts it"
            )
        streams = samples.reshape(-1, self.channels_per_stream, samples.shape[1])
        if self.config.segmenting is None:
            encoded = self.model.encode_segments(streams.transpose(0, 2, 1), num_quantizers=levels)
            scales = None if encoded.scales is None else np.asarray(encoded.scales)
            return Coded(np.asarray(encoded.codes), scales=scales)
        coded = [self._encode_segments(stream, levels) for stream in streams]
        scales = [one.scales for one in coded if one.scales is not None]
        return Coded(
            np.concatenate([one.codes for one in coded]),
            coded[0].segment_frames,
            np.concatenate(scales) if scales else None,
        )

    def _encode_segments(self, samples: np.ndarray, levels: int) -> Coded:
        """One stream [C, T]."""
        segments = self.config.segments(samples.shape[1])
        lengths = np.array([length for _, length in segments], np.int32)
        batch = np.zeros((len(segments), lengths.max(), len(samples)), np.float32)
        for row, (start, length) in zip(batch, segments, strict=True):
            piece = samples[:, start : start + length].T
            row[: len(piece)] = piece

        def encode(batch: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
            return [
                np.asarray(array)
                for array in self.model.encode_segments(batch, lengths, levels)
                if array is not None
            ]

        codes, *scales = _in_groups(encode, batch, lengths)
        frames = tuple(map(self.config.encoded_length, lengths.tolist()))
        kept = [piece[:, :count] for piece, count in zip(codes, frames, strict=True)]
        return Coded(
            np.concatenate(kept, axis=-1)[None], frames, scales[0][None, :, 0] if scales else None
        )

    def decode(self, clip: EncodedAudio) -> np.ndarray:
        """See `Coder`."""
        if (clip.scales is not None) != self.config.normalize:
            raise FormatError(
                "scales are missing, which this model needs"
                if self.config.normalize
                else "scales are given, which this model does not have"
            )
        if not clip.padding or clip.chunk_frames != clip.num_frames:
            raise FormatError("codes come in chunks of descript's, which EnCodec does not have")
        if self.config.segmenting is not None:
            scales = [None] * len(clip.codes) if clip.scales is None else clip.scales
            frames = self._checked_frames(clip)
            streams = zip(clip.codes, scales, strict=True)
            return np.concatenate([self._decode_segments(*stream, frames) for stream in streams])
        if clip.segment_frames is not None and len(clip.segment_frames) > 1:
            raise FormatError("codes come in segments, but this model codes clips in one")
        decoded = np.asarray(self.model.decode_segments(clip.codes, clip.scales))
        return decoded.transpose(0, 2, 1).reshape(-1, decoded.shape[1])

    def _checked_frames(self, clip: EncodedAudio) -> tuple[int, ...]:
        """Frames of the segments, all of which but the last must reach where the next begins."""
        frames = clip.segment_frames or (clip.num_frames,)
        longest = self.config.encoded_length(self.config.segmenting.length)
        shortest = self.config.segmenting.stride // self.config.hop_length + 1
        if max(frames) > longest or min(frames[:-1], default=longest) < shortest:
            raise FormatError(
                f"codes are in segments of {min(frames)} to {max(frames)} frames, allowed: "
                f"{shortest} to {longest}, and fewer in the last one"
            )
        return frames

    def _decode_segments(
        self, codes: np.ndarray, scales: np.ndarray | None, frames: tuple[int, ...]
    ) -> np.ndarray:
        """Codes int32 [K, F] and scales float32 [S] of one stream -> [C, T]."""
        pieces = np.split(codes, np.cumsum(frames)[:-1], axis=-1)
        segmented = np.zeros((len(frames), len(codes), max(frames)), np.int32)
        for row, piece in zip(segmented, pieces, strict=True):
            row[:, : piece.shape[-1]] = piece
        if scales is None:
            scales = np.ones(len(frames), np.float32)
        counts = np.array(frames, np.int32)

        def decode(codes: np.ndarray, scales: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(self.model.decode_segments(codes, scales, counts))]

        (segments,) = _in_groups(decode, segmented, scales[:, None], counts)
        lengths = counts[:, None] * self.config.hop_length
        stride = self.config.segmenting.stride
        end = (len(frames) - 1) * stride + int(lengths[-1, 0])
        joined = np.asarray(overlap_add(segments[:, None], lengths, stride=stride))
        return joined[0, :end].T


def _in_groups(process: Callable[..., list[np.ndarray]], *arrays: np.ndarray) -> list[np.ndarray]:
    """`process` for some entries of the first axis at a time, always as many: one compilation."""
    count = len(arrays[0])
    size = min(count, SEGMENTS_AT_ONCE)
    missing = -count % size
    filled = [np.concatenate([array, np.zeros_like(array[:missing])]) for array in arrays]
    groups = [
        process(*(array[start : start + size] for array in filled))
        for start in range(0, count, size)
    ]
    return [np.concatenate(pieces)[:count] for pieces in zip(*groups, strict=True)]
