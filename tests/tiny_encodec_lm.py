"""Tiny language models for EnCodec's `.ecdc` files, with random weights, made without torch."""

import numpy as np
from flax.traverse_util import unflatten_dict

from codax.configuration.configuration_encodec_lm import ENCODEC_LMS, EncodecLmArchitecture
from codax.conversion import save_encodec_lm
from codax.modeling.modeling_flax_encodec_lm import EncodecLm
from codax.modeling.weight_table import encodec_lm_weight_rules

# As many codebooks as the released ones have, by which a file of weights is told apart.
TINY_LMS = {
    model: EncodecLmArchitecture(
        released.num_codebooks,
        past_context=5,
        dim=8,
        num_layers=1,
        num_heads=2,
        feed_forward_dim=8,
    )
    for model, released in ENCODEC_LMS.items()
}


def use_tiny_lms(monkeypatch):
    """In place of the released architectures, so that files of tiny weights load."""
    for model, architecture in TINY_LMS.items():
        monkeypatch.setitem(ENCODEC_LMS, model, architecture)


def write_tiny_lm(folder, model, seed=0):
    """A folder of weights as `load_encodec_lm` reads it; probabilities are far from equal."""
    architecture = TINY_LMS[model]
    generator = np.random.default_rng(seed)
    params = {
        rule.flax_path: _draw(generator, rule) for rule in encodec_lm_weight_rules(architecture)
    }
    save_encodec_lm(EncodecLm(model, architecture, unflatten_dict(params)), folder)
    return folder


def _draw(generator, rule):
    values = generator.standard_normal(rule.flax_shape).astype(np.float32)
    match rule.flax_path[-1]:
        case "scale":
            return np.exp(np.float32(0.3) * values)
        case "bias":
            return np.float32(0.3) * values
        case "kernel":
            return np.float32(2 / rule.flax_shape[0] ** 0.5) * values
    return values
