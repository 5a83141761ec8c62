"""A codec whose codes are the samples themselves: what it changes, `AudioCodec` has changed."""

import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from codax import DacConfig, FlaxDacModel
from codax.modeling.modeling_flax_dac import FlaxDacDecoderOutput, FlaxDacEncoderOutput

FULL_SCALE = 2**15 - 1
QUANTISATION_STEP = 1 / FULL_SCALE
HOP_LENGTH = 40


class PassThroughConfig(DacConfig):
    """One codebook for each sample of a frame; audio that lacks the last samples."""

    presets: ClassVar = {}
    encoder_context_frames = (3, 2)
    decoder_context_frames = (2, 3)

    def __init__(self, sampling_rate=8000, shortfall=8, **chunks):
        super().__init__(
            downsampling_ratios=[HOP_LENGTH],
            n_codebooks=HOP_LENGTH,
            codebook_size=2**16,
            sampling_rate=sampling_rate,
            **chunks,
        )
        self.shortfall = shortfall

    def frames_to_cover(self, num_samples):
        return max(1, math.ceil((num_samples + self.shortfall) / self.hop_length))

    def decoded_length(self, num_frames, padded=True):
        return num_frames * self.hop_length - self.shortfall


class PassThroughModel(FlaxDacModel):
    """Loses nothing but what 16 bits lose, and the last samples, as odd strides do.

    `frames_at_once` lists how many frames each call was given, over all channels.
    """

    def __init__(self, sampling_rate=8000, shortfall=8, **chunks):
        self._config = PassThroughConfig(sampling_rate, shortfall, **chunks)
        self._module = SimpleNamespace(architecture=self._config.architecture)
        self._is_initialized = True
        self._params = {"none": np.zeros(1)}
        self.frames_at_once = []

    def _apply(self, method, params, *arrays, **options):
        latents_or_samples, *others = arrays
        if method == "decode":
            codes, num_frames = others
            assert latents_or_samples is None
            decoded = self._decode(codes)
            return decoded if num_frames is None else self._without_rest(decoded, num_frames)
        (lengths,) = others
        encoded = self._encode(latents_or_samples)
        if method == "encode_codes":
            assert not np.any(latents_or_samples[..., int(lengths.max()) :])
            return encoded.audio_codes
        assert (method, lengths) == ("encode", None)
        return encoded

    def _encode(self, input_values):
        channels, one, num_samples = input_values.shape
        assert (one, num_samples % HOP_LENGTH) == (1, 0)
        assert np.abs(input_values).max() <= 1, "the limiter let a peak through"
        codes = np.rint(input_values * FULL_SCALE).astype(np.int32) + FULL_SCALE
        frames = codes.reshape(channels, -1, HOP_LENGTH)
        self.frames_at_once.append(channels * frames.shape[1])
        return FlaxDacEncoderOutput(audio_codes=frames.transpose(0, 2, 1))

    def _without_rest(self, decoded, num_frames):
        audio = np.array(decoded.audio_values)
        lengths = self.config.decoded_length(num_frames)
        audio[np.arange(audio.shape[1]) >= lengths[:, None]] = 0
        return FlaxDacDecoderOutput(audio_values=audio)

    def _decode(self, audio_codes):
        channels, _, num_frames = audio_codes.shape
        self.frames_at_once.append(channels * num_frames)
        samples = audio_codes.transpose(0, 2, 1).reshape(channels, -1) - FULL_SCALE
        length = self.config.decoded_length(num_frames)
        return FlaxDacDecoderOutput(audio_values=np.float32(samples[:, :length] / FULL_SCALE))
