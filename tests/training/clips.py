"""Audio files to train on."""

import numpy as np
import soundfile


def noise(channels, num_samples, level=0.1, seed=0):
    """float32 [C, T], of about -20 LUFS by default."""
    samples = np.random.default_rng(seed).normal(0, level, (channels, num_samples))
    return samples.astype(np.float32)


def write(path, samples, rate):
    """A file with samples [C, T], as they are; the format is by the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subtype = "FLOAT" if path.suffix == ".wav" else None
    soundfile.write(path, samples.T, rate, subtype)
    return path
