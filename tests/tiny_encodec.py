"""Tiny EnCodec models with random weights, made without torch.

Their codes and their audio vary, as those of trained models do: every layer about keeps the level
of its input, biases and norms are uneven.
"""

import math

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from codax import EncodecConfig, EncodecFeatureExtractor, FlaxEncodecModel
from codax.configuration import ENCODEC_PRESETS
from codax.modeling.weight_table import encodec_weight_rules

# Few layers, since every new shape costs a compilation.
SMALL = {
    "num_filters": 4,
    "hidden_size": 8,
    "codebook_size": 16,
    "sampling_rate": 8000,
    "num_lstm_layers": 1,
}

# As 24 kHz: causal, mono, one segment. 800 frames a second, 3.2 kbps a codebook.
MONO = {**SMALL, "upsampling_ratios": [5, 2], "target_bandwidths": [3.2, 6.4, 12.8]}
# As 48 kHz: segments of 400 samples, 40 frames, every 376, which is no whole number of frames.
STEREO = {
    **SMALL,
    "upsampling_ratios": [10],
    "target_bandwidths": [3.2, 9.6],
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 0.05,
    "overlap": 0.06,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
}
# As 32 kHz: looks ahead, mono, no convolutions in shortcuts, one bandwidth.
MUSIC = {
    **SMALL,
    "upsampling_ratios": [5, 2],
    "target_bandwidths": [12.8],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
}
HOP_LENGTH = 10
SEGMENT, STRIDE = 400, 376

# The lengths, rates and codebooks of the released models, but next to no weights.
NARROW_24KHZ = {**ENCODEC_PRESETS["encodec_24khz"], "num_filters": 2, "hidden_size": 4}
NARROW_48KHZ = {**ENCODEC_PRESETS["encodec_48khz"], "num_filters": 2, "hidden_size": 4}

# Audio is soft and meets the encoder amplified; decoded audio is of a sound level again.
GAINS = {("encoder", "layers", "0"): 4.0}
OUTPUT_GAIN = 0.15


def random_params(config, seed=0):
    """The Flax tree of a configuration's weights."""
    generator = np.random.default_rng(seed)
    last = ("decoder", "layers", str(len(config.architecture.decoder[0].layers) - 1))
    gains = {**GAINS, last: 1.0 if config.normalize else OUTPUT_GAIN}
    return unflatten_dict(
        {
            rule.flax_path: jnp.asarray(gains.get(rule.flax_path[:3], 1.0) * _draw(generator, rule))
            for rule in encodec_weight_rules(config.architecture)
        }
    )


def _draw(generator, rule):
    values = generator.standard_normal(rule.flax_shape).astype(np.float32)
    match rule.flax_path[-1]:
        case "kernel" if rule.flax_path[-2] == "conv":
            return values / math.sqrt(math.prod(rule.flax_shape[:2]))
        case "scale" | "cluster_size":
            return np.exp(np.float32(0.3) * values)
        case "embedding" | "embedding_sum":
            return np.float32(0.7) * values
        case "is_initialized":
            return np.ones_like(values)
        case name if name.startswith(("input_kernel", "hidden_kernel")):
            return values / math.sqrt(min(rule.flax_shape))
    return np.float32(0.1) * values


def tiny_encodec(fields=MONO, seed=0, options=None, **changes):
    """A model with random weights; `changes` are fields of its configuration."""
    config = EncodecConfig(**{**fields, **changes})
    model = FlaxEncodecModel(config, _do_init=False, **(options or {}))
    model._is_initialized = True
    model.params = random_params(config, seed)
    return model


def write_tiny_encodec(folder, fields=MONO, seed=0, **changes):
    """A model folder, as `from_pretrained` loads it."""
    model = tiny_encodec(fields, seed, **changes)
    model.save_pretrained(folder)
    EncodecFeatureExtractor.from_config(model.config).save_pretrained(folder)
    return folder


def noise(*shape, seed=1):
    """float32 of `shape`, at the loudness of audio."""
    return (0.3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)
