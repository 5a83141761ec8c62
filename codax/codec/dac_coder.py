"""DAC for clips of any length: each channel by itself, in windows that change no number."""

from collections.abc import Callable

import numpy as np

from codax.codec.coding import Coded, fit_length
from codax.errors import FormatError
from codax.formats import EncodedAudio
from codax.modeling import FlaxDacModel
from codax.modeling.windows import windows

WINDOW_S = 20.0
"""Seconds of audio that go through the network at once: memory stays bounded for any length."""


class DacCoder:
    """A `Coder`. Long clips are coded in windows that overlap by the network's receptive field."""

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

    def encode(self, samples: np.ndarray, levels: int) -> Coded:
        """See `Coder`.

        As many frames as decode to at least T samples: with the odd strides of the 16 and 24 kHz
        models that can be one more than T makes up.
        """
        hop_length = self.config.hop_length
        num_frames = self.config.frames_to_cover(samples.shape[1])
        samples = fit_length(samples, num_frames * hop_length)

        def encode_frames(start: int, stop: int) -> np.ndarray:
            window = samples[:, None, start * hop_length : stop * hop_length]
            return np.asarray(self.model.encode(window, levels).audio_codes)

        context = self.config.encoder_context_frames
        return Coded(self._in_windows(num_frames, context, encode_frames, 1))

    def decode(self, clip: EncodedAudio) -> np.ndarray:
        """See `Coder`."""
        if clip.segment_frames is not None or clip.scales is not None:
            raise FormatError("codes come in segments with scales, which DAC does not have")
        if not clip.padding or (clip.chunk_frames or clip.num_frames) < clip.num_frames:
            return self._decode_chunks(clip)

        def decode_frames(start: int, stop: int) -> np.ndarray:
            codes = clip.codes[:, :, start:stop]
            audio_values = self.model.decode(audio_codes=codes).audio_values
            # Windows that are not the last must fill their frames: odd strides leave some short.
            return fit_length(np.asarray(audio_values), codes.shape[-1] * self.config.hop_length)

        context = self.config.decoder_context_frames
        samples = self._in_windows(clip.num_frames, context, decode_frames, self.config.hop_length)
        return samples[:, : self.config.decoded_length(clip.num_frames)]

    def _decode_chunks(self, clip: EncodedAudio) -> np.ndarray:
        """Decode descript's independently coded chunks, each alone, and join them."""
        pieces = []
        chunk_frames = clip.chunk_frames or clip.num_frames
        for start in range(0, clip.num_frames, chunk_frames):
            codes = clip.codes[:, :, start : start + chunk_frames]
            if self.config.decoded_length(codes.shape[-1], clip.padding) < 1:
                raise FormatError(
                    f"a chunk of {codes.shape[-1]} unpadded frames is too short for this model"
                )
            decoded = self.model.decode(audio_codes=codes, padded=clip.padding)
            pieces.append(np.asarray(decoded.audio_values))
        return np.concatenate(pieces, axis=-1)

    def _in_windows(
        self,
        num_frames: int,
        context: tuple[int, int],
        process: Callable[[int, int], np.ndarray],
        units_per_frame: int,
    ) -> np.ndarray:
        """Run `process(start, stop)` over windows of frames; join what is kept on the last axis."""
        size = max(round(WINDOW_S * self.config.frame_rate), 4 * sum(context))
        pieces = []
        for window in windows(num_frames, size, context):
            result = process(window.start, window.stop)
            first = (window.keep_start - window.start) * units_per_frame
            last = (window.keep_stop - window.start) * units_per_frame
            pieces.append(result[..., first:last])
        return np.concatenate(pieces, axis=-1)
