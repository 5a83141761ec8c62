"""Clips as the parts in which DAC codes many of them at once: windows, with their context."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from codax.codec.batches import Network, Part, Work
from codax.codec.coding import CHUNK_S
from codax.formats import EncodedAudio
from codax.modeling import FlaxDacModel
from codax.modeling.windows import Window
from codax.streaming import CodedFrames


class DacParts:
    """A `Parts`."""

    def __init__(self, model: FlaxDacModel, chunk_length_s: float | None = None):
        self._model, self._config = model, model.config
        context = self._config.encoder_context_frames
        self.longest_to_encode = self._config.encode_chunk_frames(chunk_length_s or CHUNK_S)
        self.longest_to_encode += sum(context)
        context = self._config.decoder_context_frames
        self.longest_to_decode = self._config.decode_chunks(chunk_length_s or CHUNK_S).frames
        self.longest_to_decode += sum(context)

    def encoder(self, levels: int) -> Network:
        """See `Parts`."""
        return lambda samples, lengths, _: (self._model.encode_codes(samples, lengths, levels),)

    def to_encode(self, samples: np.ndarray) -> Work:
        """See `Parts`."""
        hop_length = self._config.hop_length
        num_frames = self._config.frames_to_cover(samples.shape[1])
        streams = len(samples)
        context = self._config.encoder_context_frames
        parts = [
            Part(
                array=channel[:, window.start * hop_length : window.stop * hop_length],
                length=window.size * hop_length,
                frames=window.size,
                kept=slice(window.keep_start - window.start, window.keep_stop - window.start),
            )
            for channel in samples[:, None]
            for window in _windows(num_frames, self.longest_to_encode, context)
        ]

        def joined(outputs: list[tuple]) -> CodedFrames:
            return CodedFrames(_by_stream([codes for (codes,) in outputs], streams))

        return Work(parts, joined)

    def decoder(self) -> Network:
        """See `Parts`."""
        return lambda codes, num_frames, _: (self._model.decode_codes(codes, num_frames),)

    def to_decode(self, clip: EncodedAudio) -> Work | None:
        """See `Parts`. Descript's unpadded chunks are decoded by themselves."""
        if not clip.padding or clip.chunk_frames != clip.num_frames:
            return None
        hop_length, num_frames = self._config.hop_length, clip.num_frames
        parts = []
        for codes in clip.codes:
            context = self._config.decoder_context_frames
            for window in _windows(num_frames, self.longest_to_decode, context):
                stop = (window.keep_stop - window.start) * hop_length
                if window.keep_stop == num_frames:
                    stop = self._config.decoded_length(window.size)
                part = codes[:, window.start : window.stop]
                kept = slice((window.keep_start - window.start) * hop_length, stop)
                parts.append(Part(part, window.size, window.size, kept))

        def joined(outputs: list[tuple]) -> np.ndarray:
            return _by_stream([audio for (audio,) in outputs], len(clip.codes))

        return Work(parts, joined)


def _windows(num_frames: int, longest: int, context: tuple[int, int]) -> Iterator[Window]:
    """As `windows`, but the last one is as short as what is left."""
    left, right = context
    kept = 0
    while kept < num_frames:
        start = max(kept - left, 0)
        stop = min(start + longest, num_frames)
        keep_stop = stop if stop == num_frames else stop - right
        yield Window(start, stop, kept, keep_stop)
        kept = keep_stop


def _by_stream(pieces: list[Any], streams: int) -> np.ndarray:
    """Pieces [..., n] of one stream after the other -> [N, ..., n]."""
    each = len(pieces) // streams
    return np.stack(
        [
            np.concatenate(pieces[first : first + each], axis=-1)
            for first in range(0, len(pieces), each)
        ]
    )
