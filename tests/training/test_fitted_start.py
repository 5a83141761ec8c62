"""Weights that fit a batch before the first step."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from codax.errors import CodaxError
from codax.modeling.layers import FlaxConv, FlaxConvTranspose
from codax.training import load_recipe
from codax.training.fitted_start import fit_to_batch
from codax.training.steps import Training

FIELDS = "model.fields={encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=6}"


@pytest.fixture(scope="module")
def training():
    recipe = load_recipe("dac_16khz", [FIELDS, "model.start=fitted", "losses.features=0"])
    return Training(recipe, recipe.model.config())


@pytest.fixture(scope="module")
def fresh(training):
    samples = np.zeros((1, 1, training.config.hop_length), np.float32)
    levels = np.ones(1, np.int32)
    return training.module.init(jax.random.key(0), samples, levels, method="reconstruct")["params"]


@pytest.fixture(scope="module")
def clips(training):
    generator = np.random.default_rng(0)
    shape = (8, 1, 20 * training.config.hop_length)
    return (0.1 * generator.standard_normal(shape)).astype(np.float32)


def deviations(module, params, samples):
    """By the path of a convolution, of what comes out of it."""
    found = {}

    def noted(call, arguments, options, context):
        outputs = call(*arguments, **options)
        if isinstance(context.module, FlaxConv | FlaxConvTranspose):
            found[context.module.path] = float(np.std(outputs))
        return outputs

    levels = np.full(len(samples), 6, np.int32)
    with nn.intercept_methods(noted):
        made = module.apply({"params": params}, samples, levels, method="reconstruct")
    return found, made


def test_signals_keep_their_size_through_both_networks(training, fresh, clips):
    before, _ = deviations(training.module, fresh, clips)
    after, made = deviations(training.module, fit_to_batch(training.module, fresh, clips), clips)
    assert before["encoder", "conv2"] < 0.1
    last = after.pop(("decoder", "conv2"))
    networks = [value for path, value in after.items() if path[0] != "quantizer"]
    np.testing.assert_allclose(networks, 1, rtol=1e-3)
    assert last == pytest.approx(clips.std(), rel=1e-3)
    assert np.std(made.audio) == pytest.approx(clips.std(), rel=0.1)


def test_each_level_takes_something_away(training, fresh, clips):
    params = fit_to_batch(training.module, fresh, clips)
    samples = np.swapaxes(clips, 1, 2)
    latents = training.module.apply(
        {"params": params}, samples, method=lambda module, samples: module.encoder(samples)
    )
    residual, left = latents, []
    for level in range(6):
        quantized = training.module.apply(
            {"params": params},
            residual,
            method=lambda module, residual, level=level: (
                module.quantizer.quantizers[level](residual).quantized
            ),
        )
        residual = residual - quantized
        left.append(float(np.var(residual)))
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.6 * np.var(latents)


def test_silence_gives_finite_weights(training, fresh, clips):
    params = fit_to_batch(training.module, fresh, 0 * clips)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_recipe_asks_for_it(training, fresh, clips):
    state = training.initial_state(fresh)
    assert jax.tree.all(
        jax.tree.map(
            np.array_equal,
            training.begun(state, clips).model,
            training._split(fit_to_batch(training.module, fresh, clips)),
        )
    )
    plain = load_recipe("dac_16khz", [FIELDS])
    plain = Training(plain, plain.model.config())
    state = plain.initial_state(fresh)
    assert plain.begun(state, clips) is state


def test_encodec_has_its_own_start():
    recipe = load_recipe("encodec_24khz", ["model.start=fitted"])
    with pytest.raises(CodaxError, match=r"model\.start"):
        recipe.model.config()
