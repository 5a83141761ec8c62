"""A gradient through the quantizer that has no part along what is looked up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.errors import CodaxError
from codax.training import load_recipe
from codax.training.reconstruction import tangential
from codax.training.steps import Training
from codax.training.trainer import MODELS

from .runs import tiny_recipe

GENERATOR = np.random.default_rng(0)
PROJECTED, CODEWORDS, COTANGENT = GENERATOR.standard_normal((3, 2, 5, 8)).astype(np.float32)


def pulled_back(projected):
    values, pull_back = jax.vjp(tangential, projected, CODEWORDS)
    return values, *pull_back(jnp.asarray(COTANGENT))


def test_codewords_come_out_and_follow_the_gradient_itself():
    values, _, of_codewords = pulled_back(PROJECTED)
    np.testing.assert_array_equal(values, CODEWORDS)
    np.testing.assert_array_equal(of_codewords, COTANGENT)


def test_what_is_looked_up_turns_but_grows_no_longer():
    _, gradient, _ = pulled_back(PROJECTED)
    along = np.sum(gradient * PROJECTED, axis=-1)
    np.testing.assert_allclose(along, 0, atol=1e-5)
    # Of a vector that is as long as its codeword: the cotangent less its part along the vector.
    lengths = np.linalg.norm(CODEWORDS, axis=-1, keepdims=True)
    unit = PROJECTED / np.linalg.norm(PROJECTED, axis=-1, keepdims=True)
    _, gradient, _ = pulled_back(unit * lengths)
    across = COTANGENT - unit * np.sum(unit * COTANGENT, axis=-1, keepdims=True)
    np.testing.assert_allclose(gradient, across, atol=1e-5)


def test_silence_has_a_finite_gradient():
    assert all(np.isfinite(one).all() for one in pulled_back(np.zeros_like(PROJECTED)))


def test_reconstruction_is_the_same_and_the_encoder_learns_otherwise():
    samples = 0.3 * np.random.default_rng(0).standard_normal((2, 1, 1600), np.float32)

    def of_kind(gradient):
        recipe = tiny_recipe("dac", f"quantizer.gradient={gradient}")
        training = Training(recipe, recipe.model.config())
        params = training.initial_state(MODELS["dac"](training.config, seed=0).params).model
        levels = training._all_levels(len(samples))

        def loss(params):
            made = training.reconstruct(params, samples, levels)
            return jnp.mean(jnp.square(made.audio - samples)), made.audio

        return jax.jit(jax.grad(loss, has_aux=True))(params)

    (straight, audio), (turned, other_audio) = map(of_kind, ("straight_through", "tangential"))
    np.testing.assert_allclose(other_audio, audio, atol=1e-6)
    codebook = ("quantizers_0", "codebook", "embedding")
    leaves = [one["quantizer"][codebook[0]][codebook[1]][codebook[2]] for one in (straight, turned)]
    assert not np.any(leaves[0])  # straight through, only the codebook's loss teaches it
    assert np.any(leaves[1])
    straight, turned = (one["encoder"]["conv1"]["bias"] for one in (straight, turned))
    assert np.max(np.abs(turned - straight)) > 0.01 * np.max(np.abs(straight)) > 0


def test_encodec_has_no_such_gradient():
    recipe = load_recipe("encodec_24khz", ["quantizer.gradient=tangential"])
    with pytest.raises(CodaxError, match=r"quantizer\.gradient='tangential' is for DAC"):
        Training(recipe, recipe.model.config())
