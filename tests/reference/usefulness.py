"""What random weights must achieve to be worth testing with: checkpoints.py for the reason."""

import numpy as np
import torch

from . import encodec_inputs, inputs

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
    _assert_no_faults(variant, latents, codes, decoded)


def assert_useful_encodec(oracle, variant):
    """As `assert_useful` for EnCodec. oracle: a reference of `encodec_oracles.py`"""
    num_samples = min(int(LENGTH_S * variant.sampling_rate), variant.chunk_length or 1 << 30)
    signals = [encodec_inputs.make_input(name, variant)[:, :num_samples] for name in SIGNALS]
    audio = np.stack(signals)
    segments = oracle.encode(audio, variant.target_bandwidths[-1])
    latents = oracle.latents(oracle.model, oracle.cut(audio)[0]).numpy()
    decoded = oracle.decode(segments)[..., :num_samples]
    _assert_no_faults(variant, latents, segments[0].codes, decoded)


def _assert_no_faults(variant, latents, codes, decoded):
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
