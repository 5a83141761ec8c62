"""DAC for clips of any length: each channel by itself."""

from collections.abc import Iterator

import numpy as np

from codax.codec.coding import decode_chunks
from codax.errors import FormatError
from codax.formats import EncodedAudio
from codax.modeling import FlaxDacModel


class DacCoder:
    """A `Coder`."""

    training_loudness_db = -16.0  # what descript-audio-codec too normalises to before encoding
    channels_per_stream = 1

    def __init__(self, model: FlaxDacModel):
        self.model = model
        self.config = model.config
        self.num_codebooks = model.config.n_codebooks
        self.codebook_size = model.config.codebook_size

    def levels(self, n_quantizers: int | None, bandwidth: float | None) -> int:
        """See `Coder`: all codebooks by default."""
        if bandwidth is not None:
            raise ValueError(f"bandwidth={bandwidth}: DAC takes n_quantizers instead")
        return self.config.checked_quantizers(n_quantizers)

    def decoded_length(self, clip: EncodedAudio) -> int:
        """See `Coder`."""
        if clip.segment_frames is not None or clip.scales is not None:
            raise FormatError("codes come in segments with scales, which DAC does not have")
        return sum(length for _, length in self._chunks(clip))

    def decode(
        self, clip: EncodedAudio, span: tuple[int, int] | None = None
    ) -> Iterator[np.ndarray]:
        """See `Coder`. Descript's independently coded chunks are decoded each alone."""
        chunks = self._chunks(clip)
        if len(chunks) == 1 and clip.padding:
            how = decode_chunks(self.config, is_span=span is not None)
            pieces = self.model.decode_pieces(clip.codes, how, span)
            return (piece[:, 0] for piece in pieces)
        return self._decode_chunks(clip, span or (0, self.decoded_length(clip)))

    def _chunks(self, clip: EncodedAudio) -> list[tuple[slice, int]]:
        """The frames that were coded together, and how many samples they decode to."""
        size = clip.chunk_frames or clip.num_frames
        chunks = []
        for start in range(0, clip.num_frames, size):
            frames = slice(start, min(start + size, clip.num_frames))
            length = self.config.decoded_length(frames.stop - start, clip.padding)
            if length < 1:
                raise FormatError(
                    f"a chunk of {frames.stop - start} unpadded frames is too short for this model"
                )
            chunks.append((frames, length))
        return chunks

    def _decode_chunks(self, clip: EncodedAudio, span: tuple[int, int]) -> Iterator[np.ndarray]:
        first, last = span
        position = 0
        for frames, length in self._chunks(clip):
            if position < last and position + length > first:
                decoded = self.model.decode(
                    audio_codes=clip.codes[:, :, frames], padded=clip.padding, chunk_length_s=0
                )
                audio = np.asarray(decoded.audio_values)
                yield audio[:, max(first - position, 0) : last - position]
            position += length
