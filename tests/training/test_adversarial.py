"""Adversarial losses that no installed reference has, and what all of them promise."""

import jax
import numpy as np
import pytest

from codax.training import adversarial

PAIR_LOSSES = (
    adversarial.lsgan_discriminator_loss,
    adversarial.hinge_discriminator_loss,
    adversarial.summed_feature_loss,
    adversarial.mean_feature_loss,
)


def maps_of(seed):
    """Of two discriminators: three maps and two, the scores from -2 to 2."""
    generator = np.random.default_rng(seed)
    shapes = [[(2, 3, 4), (2, 3, 5), (2, 6)], [(2, 7), (2, 4)]]
    return [[generator.uniform(-2, 2, shape).astype("f4") for shape in maps] for maps in shapes]


FAKE, REAL = maps_of(1), maps_of(2)


def test_saturating_hinge_forgets_scores_above_one():
    expected = np.mean([np.maximum(0, 1 - maps[-1]).mean() for maps in FAKE])
    loss = adversarial.saturating_hinge_generator_loss(FAKE)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    louder = [[*maps[:-1], np.where(maps[-1] > 1, 9, maps[-1])] for maps in FAKE]
    np.testing.assert_allclose(adversarial.saturating_hinge_generator_loss(louder), loss)


def test_relative_feature_loss_is_that_of_the_paper():
    ratios = [
        [np.abs(f - r).mean() / np.abs(r).mean() for f, r in zip(fs[:-1], rs[:-1], strict=True)]
        for fs, rs in zip(FAKE, REAL, strict=True)
    ]
    expected = np.mean([np.mean(ratio) for ratio in ratios])
    loss = adversarial.mean_feature_loss(FAKE, REAL, relative=True)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "loss", [adversarial.summed_feature_loss, adversarial.mean_feature_loss], ids=["sum", "mean"]
)
def test_feature_losses_leave_scores_and_real_audio_alone(loss):
    by_fake, by_real = jax.grad(loss, (0, 1))(FAKE, REAL)
    for single in [*jax.tree.leaves(by_real), *(maps[-1] for maps in by_fake)]:
        np.testing.assert_array_equal(single, 0)
    assert all(np.any(single) for maps in by_fake for single in maps[:-1])


@pytest.mark.parametrize("loss", PAIR_LOSSES)
def test_maps_of_another_number_of_discriminators_are_an_error(loss):
    with pytest.raises(ValueError, match="zip"):
        loss(FAKE, REAL[:1])
