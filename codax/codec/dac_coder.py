"""DAC for clips of any length: each channel by itself."""

from collections.abc import Iterator

import numpy as np

from codax.codec.coding import decode_chunks
from codax.errors import FormatError
from codax.formats import EncodedAudio
from codax.modeling import FlaxDacModel
from codax.modeling.devices import on_host
from codax.modeling.windows import cropped, windows


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
                wanted = max(first - position, 0), min(last - position, length)
                yield from self._decode_chunk(clip.codes[:, :, frames], clip.padding, wanted)
            position += length

    def _decode_chunk(
        self, codes: np.ndarray, padding: bool, span: tuple[int, int]
    ) -> Iterator[np.ndarray]:
        """A span of one chunk, which may itself be long: a file says how long it is."""
        how = decode_chunks(self.config, is_span=True)
        if padding:
            yield from (piece[:, 0] for piece in self.model.decode_pieces(codes, how, span))
        else:
            yield from cropped(
                self._decode_unpadded(codes, how.frames), span[1] - span[0], skipped=span[0]
            )

    def _decode_unpadded(self, codes: np.ndarray, size: int) -> Iterator[np.ndarray]:
        hop_length, num_frames = self.config.hop_length, codes.shape[-1]
        # The unpadded network's samples lie later than their frames: by its context, at most.
        context = 2 * max(self.config.decoder_context_frames)
        for window in windows(num_frames, size + 2 * context, (context, context)):
            frames = slice(window.start, window.stop)
            decoded = self.model.decode(
                audio_codes=codes[..., frames], padded=False, chunk_length_s=0
            )
            first = (window.keep_start - window.start) * hop_length
            stop = None
            if window.keep_stop < num_frames:
                stop = (window.keep_stop - window.start) * hop_length
            yield on_host(decoded.audio_values)[:, first:stop]
