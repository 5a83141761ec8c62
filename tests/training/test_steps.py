"""A step of training by itself."""

import jax
import numpy as np
import pytest
from optax import tree_utils

from codax.training.steps import Training
from codax.training.trainer import MODELS

from .runs import tiny_recipe


def stepped(kind, samples, *settings):
    """The losses of a step, the moments of both optimizers (shares of gradients), and the model.

    Learning nothing by gradients: Adam's first step is as long for the smallest of them, be it
    rounding alone.
    """
    recipe = tiny_recipe(kind, "optimizer.learning_rate=0", *settings)
    training = Training(recipe, recipe.model.config())
    state = training.initial_state(MODELS[kind](training.config, seed=0).params)
    state = jax.jit(training.begun)(state, samples)
    state, losses = jax.jit(training.step)(state, samples)
    optimizers = {
        "model": state.model_optimizer,
        "discriminator": state.discriminator_optimizer,
    }
    moments = {name: tree_utils.tree_get(one, "mu") for name, one in optimizers.items()}
    return {"losses": losses, "moments": moments, "model": state.model}


@pytest.mark.full
@pytest.mark.parametrize("kind", ["dac", "encodec"])
def test_a_batch_in_parts_is_the_same_step(kind):
    samples = 0.3 * np.random.default_rng(0).standard_normal((4, 1, 1600), np.float32)
    whole, parts = (
        stepped(kind, samples, f"run.accumulate={count}", "quantizer.dropout_by=item")
        for count in (1, 2)
    )
    for name in ("model", "discriminator"):
        # What a score's bias gets of real and of made audio cancels, but for rounding.
        moments = [one["moments"].pop(name) for one in (whole, parts)]
        assert_close(*moments, scale=largest(moments[0]))
    assert_close(whole, parts)


def test_the_learning_rate_grows_then_decays():
    settings = ("optimizer.warmup_steps=4", "optimizer.decay=0.5", "optimizer.weight_decay=0")
    recipe = tiny_recipe("dac", "optimizer.learning_rate=0.1", "losses.adversarial=0", *settings)
    optimizer = Training(recipe, recipe.model.config()).discriminator_optimizer
    gradient = np.ones(3, np.float32)
    state, rates = optimizer.init(gradient), []
    for _ in range(8):
        # Adam's step for a gradient that stays the same is the learning rate.
        update, state = optimizer.update(gradient, state, gradient)
        rates.append(-float(update[0]))
    expected = [0, 0.025, 0.05, 0.075, 0.1, 0.05, 0.025, 0.0125]
    np.testing.assert_allclose(rates, expected, rtol=1e-4, atol=1e-7)


def largest(tree):
    return max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(tree))


def assert_close(expected, found, scale=None):
    """To 1e-5 of `scale`, of each leaf's largest number by default."""
    paths = jax.tree.leaves_with_path(expected)
    assert len(paths) == len(jax.tree.leaves(found)) > 4
    for (path, leaf), other in zip(paths, jax.tree.leaves(found), strict=True):
        by = scale or np.max(np.abs(leaf), initial=1e-9)
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other / by, leaf / by, rtol=0, atol=1e-5, err_msg=where)
