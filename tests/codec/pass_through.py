"""A codec whose codes are the samples themselves: what it changes, `AudioCodec` has changed."""

import math
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

FULL_SCALE = 2**15 - 1
QUANTISATION_STEP = 1 / FULL_SCALE


class PassThroughConfig:
    """As much of a `DacConfig` as `AudioCodec` reads. One codebook for each sample of a frame."""

    presets: ClassVar = {}
    hop_length = 40
    n_codebooks = 40
    codebook_size = 2**16
    encoder_context_frames = (3, 2)
    decoder_context_frames = (2, 3)

    def __init__(self, sampling_rate=8000, shortfall=8):
        self.sampling_rate = sampling_rate
        self.shortfall = shortfall

    @property
    def frame_rate(self):
        return self.sampling_rate / self.hop_length

    def checked_quantizers(self, n_quantizers):
        return self.n_codebooks if n_quantizers is None else n_quantizers

    def frames_to_cover(self, num_samples):
        return max(1, math.ceil((num_samples + self.shortfall) / self.hop_length))

    def decoded_length(self, num_frames, padded=True):
        return num_frames * self.hop_length - self.shortfall


class PassThroughModel:
    """Loses nothing but what 16 bits lose, and the last samples, as odd strides do.

    `frames_at_once` lists how many frames each call was given, over all channels.
    """

    def __init__(self, sampling_rate=8000, shortfall=8):
        self.config = PassThroughConfig(sampling_rate, shortfall)
        self.frames_at_once = []

    def encode(self, input_values, n_quantizers=None):
        channels, one, num_samples = input_values.shape
        assert (one, num_samples % self.config.hop_length) == (1, 0)
        assert np.abs(input_values).max() <= 1, "the limiter let a peak through"
        codes = np.rint(input_values * FULL_SCALE).astype(np.int32) + FULL_SCALE
        frames = codes.reshape(channels, -1, self.config.hop_length)
        self.frames_at_once.append(channels * frames.shape[1])
        return SimpleNamespace(audio_codes=frames.transpose(0, 2, 1))

    def decode(self, audio_codes, padded=True):
        channels, _, num_frames = audio_codes.shape
        self.frames_at_once.append(channels * num_frames)
        samples = audio_codes.transpose(0, 2, 1).reshape(channels, -1) - FULL_SCALE
        length = self.config.decoded_length(num_frames)
        return SimpleNamespace(audio_values=np.float32(samples[:, :length] / FULL_SCALE))
