"""Fixtures that several rooms share: tiny models with random weights, made without torch."""

import math

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from codax import DacConfig, DacFeatureExtractor, FlaxDacModel
from codax.modeling.torch_layout import weight_rules

# One odd stride, as in the 16 and 24 kHz models: F frames decode to 10 F - 2 samples.
TINY = {
    "encoder_hidden_size": 4,
    "downsampling_ratios": [2, 5],
    "decoder_hidden_size": 16,
    "n_codebooks": 3,
    "codebook_size": 16,
    "codebook_dim": 4,
    "sampling_rate": 8000,
}
# Before the final tanh: output of a sound level, neither silent nor saturated.
OUTPUT_GAIN = 0.05


def tiny_dac(**changes):
    """A DAC model with a few hundred random weights; `changes` are fields of its configuration."""
    config = DacConfig(**{**TINY, **changes})
    model = FlaxDacModel(config, _do_init=False)
    model._is_initialized = True
    model.params = _random_params(config)
    return model


def _random_params(config):
    """Each layer keeps the level of its input; alphas and codewords are uneven, biases not zero."""
    generator = np.random.default_rng(0)
    spreads = {"alpha": 0.5, "bias": 0.05, "embedding": 1.0}
    params = {}
    for rule in weight_rules(config.architecture):
        leaf = rule.flax_path[-1]
        spread = spreads.get(leaf) or math.prod(rule.flax_shape[:2]) ** -0.5
        if rule.flax_path[:2] == ("decoder", "conv2"):
            spread *= OUTPUT_GAIN
        weights = generator.normal(0, spread, rule.flax_shape).astype(np.float32)
        params[rule.flax_path] = np.exp(weights) if leaf == "alpha" else weights
    return unflatten_dict(params)


@pytest.fixture(scope="session")
def odd_model():
    """A model with an odd stride."""
    return tiny_dac()


@pytest.fixture(scope="session")
def even_model():
    """A model with even strides only, as at 44.1 kHz."""
    return tiny_dac(downsampling_ratios=[2, 4])


@pytest.fixture(scope="session")
def model_folder(odd_model, tmp_path_factory):
    """`odd_model` as `from_pretrained` loads it: config, weights, preprocessor config."""
    folder = tmp_path_factory.mktemp("tiny_dac")
    odd_model.save_pretrained(folder)
    DacFeatureExtractor.from_config(odd_model.config).save_pretrained(folder)
    return folder
