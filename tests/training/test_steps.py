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
    state = jax.jit(training.with_first_codebooks)(state, samples)
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
    paths = jax.tree.leaves_with_path(whole)
    assert len(paths) == len(jax.tree.leaves(parts)) > 20
    for (path, expected), leaf in zip(paths, jax.tree.leaves(parts), strict=True):
        scale = np.max(np.abs(expected), initial=1e-9)
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(leaf / scale, expected / scale, atol=1e-5, err_msg=where)
