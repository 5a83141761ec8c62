"""EnCodec for clips of any length: as one stream, or for the 48 kHz model in segments."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from codax.codec.coding import decode_chunks
from codax.configuration.config_fields import is_int
from codax.errors import FormatError
from codax.formats import EncodedAudio
from codax.modeling import FlaxEncodecModel

DEFAULT_BANDWIDTH = 6.0
"""kbps; the default of the authors' command."""


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

    def decoded_length(self, clip: EncodedAudio) -> int:
        """See `Coder`."""
        if (clip.scales is not None) != self.config.normalize:
            raise FormatError(
                "scales are missing, which this model needs"
                if self.config.normalize
                else "scales are given, which this model does not have"
            )
        if not clip.padding or clip.chunk_frames != clip.num_frames:
            raise FormatError("codes come in chunks of descript's, which EnCodec does not have")
        frames = self._checked_frames(clip)
        if self.config.segmenting is None:
            return self.config.decoded_length(clip.num_frames)
        before_last = (len(frames) - 1) * self.config.segmenting.stride
        return before_last + self.config.decoded_length(frames[-1])

    def decode(
        self, clip: EncodedAudio, span: tuple[int, int] | None = None
    ) -> Iterator[np.ndarray]:
        """See `Coder`."""
        how = decode_chunks(self.config, is_span=span is not None)
        span = span or (0, self.decoded_length(clip))
        frames = self._checked_frames(clip)
        num_frames = None
        if self.config.segmenting is not None:
            num_frames = np.repeat(np.array(frames, np.int32)[:, None], len(clip.codes), axis=1)
        pieces = self.model.decode_pieces(
            _in_segments(clip.codes, frames),
            how,
            None if clip.scales is None else clip.scales.T[..., None],
            num_frames,
            span,
        )
        return (piece.reshape(clip.channels, -1) for piece in pieces)

    def _checked_frames(self, clip: EncodedAudio) -> tuple[int, ...]:
        """Frames of the segments, all of which but the last must reach where the next begins."""
        frames = clip.segment_frames or (clip.num_frames,)
        if self.config.segmenting is None:
            if len(frames) > 1:
                raise FormatError("codes come in segments, but this model codes clips in one")
            return frames
        longest = self.config.encoded_length(self.config.segmenting.length)
        shortest = self.config.segmenting.stride // self.config.hop_length + 1
        if max(frames) > longest or min(frames[:-1], default=longest) < shortest:
            raise FormatError(
                f"codes are in segments of {min(frames)} to {max(frames)} frames, allowed: "
                f"{shortest} to {longest}, and fewer in the last one"
            )
        return frames


def _in_segments(codes: np.ndarray, frames: tuple[int, ...]) -> Any:
    """Codes int32 [N, K, F] of segments one after the other -> [S, N, K, F'], filled with zeros."""
    segments = np.zeros((len(frames), *codes.shape[:2], max(frames)), np.int32)
    pieces = np.split(codes, np.cumsum(frames)[:-1], axis=-1)
    for segment, piece in zip(segments, pieces, strict=True):
        segment[..., : piece.shape[-1]] = piece
    return segments
