"""What random weights must achieve to be worth testing with; see checkpoints.py."""

import numpy as np
import torch

from . import inputs

SIGNALS = ("white_noise", "speech")
LENGTH_S = 0.5
LATENT_STD = (0.3, 3.0)
MIN_CODES_USED = 0.3  # of as many as the frames could use
AUDIO_STD = (0.05, 0.5)
SATURATED = 0.98


def assert_useful(oracle, variant):
    """Raise AssertionError unless latents have spread, codes variety and audio a sound level.

    oracle: a reference of `oracles.py` with the weights in question
    """
    audio = _noise_and_speech(variant)
    with torch.no_grad():
        latents = oracle.model.encoder(torch.from_numpy(audio)).numpy()
    codes = oracle.encode(audio).codes
    decoded = oracle.decode_codes(codes)
    faults = [*_latent_faults(latents), *_code_faults(codes, variant), *_audio_faults(decoded)]
    assert not faults, f"weights of {variant.name} make a poor test: " + "; ".join(faults)


def _noise_and_speech(variant):
    """float32 [2, 1, T]."""
    num_samples = int(LENGTH_S * variant.sampling_rate) // variant.hop_length * variant.hop_length
    signals = [
        inputs.make_content(name, variant.sampling_rate, num_samples).astype(np.float32)
        for name in SIGNALS
    ]
    return np.stack(signals)[:, None]


def _latent_faults(latents):
    low, high = LATENT_STD
    over_time = latents.std(axis=(0, 2))
    if not low < np.median(over_time) < high:
        yield f"latents vary by {np.median(over_time):.2f} over time"


def _code_faults(codes, variant):
    num_frames = codes.shape[0] * codes.shape[2]
    possible = min(num_frames, variant.codebook_size)
    for level in range(codes.shape[1]):
        used = len(np.unique(codes[:, level]))
        if used <= MIN_CODES_USED * possible:
            yield f"level {level} uses {used} codes in {num_frames} frames"


def _audio_faults(audio):
    low, high = AUDIO_STD
    for name, channel in zip(SIGNALS, audio, strict=True):
        if not low < channel.std() < high:
            yield f"decoded {name} has standard deviation {channel.std():.3f}"
        if np.abs(channel).max() > SATURATED:
            yield f"decoded {name} saturates: {np.abs(channel).max():.3f}"
