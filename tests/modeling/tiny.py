"""Tiny DAC models whose codes and audio vary, as those of trained models do.

Fresh random weights test little (latents vanish, codes collapse, audio is silent), and drawing them
takes seconds. These come from numpy: products keep the scale of what they are given, Snake's alphas
and the biases are uneven.
"""

import math

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from codax.configuration import DacConfig
from codax.modeling import FlaxDacModel
from codax.modeling.weight_table import dac_weight_rules

# Two ratios, so that their order matters; one odd, so that audio is shorter than whole frames.
TINY = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 5],
    "decoder_hidden_size": 16,
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "sampling_rate": 8000,
}
HOP_LENGTH = 10
# One shape for most tests, since each new shape costs a compilation. It is longer than what one
# frame reaches, about 30 frames to either side.
BATCH, FRAMES = 2, 70
AUDIO_STD = 0.3


def tiny_config(**changes):
    return DacConfig(**{**TINY, **changes})


def tiny_params(config, seed=0):
    random = np.random.default_rng(seed)
    leaves = {
        rule.flax_path: jnp.asarray(_draw(random, rule), jnp.float32)
        for rule in dac_weight_rules(config.architecture)
    }
    return unflatten_dict(leaves)


def _draw(random, rule):
    values = random.standard_normal(rule.flax_shape)
    match rule.flax_path[-1]:
        case "kernel":
            return _gain(rule.flax_path) * values / math.sqrt(math.prod(rule.torch_shape[1:]))
        case "alpha":
            return np.exp(0.3 * values)
        case "bias":
            return 0.1 * values
    return values


def _gain(path):
    """Audio is soft and meets the encoder amplified; residual branches add up; tanh saturates."""
    if path[-3].startswith("res_unit"):
        return 0.5
    return {("encoder", "conv1"): 4.0, ("decoder", "conv2"): 0.1}.get(path[:2], 1.0)


def tiny_model(config=None, seed=0, **options):
    config = tiny_config() if config is None else config
    model = FlaxDacModel(config, _do_init=False, **options)
    model._is_initialized = True
    model.params = tiny_params(config, seed)
    return model


def noise(*shape, seed=1):
    """float32 of `shape`, at the loudness of audio."""
    random = np.random.default_rng(seed)
    return (AUDIO_STD * random.standard_normal(shape)).astype(np.float32)
