"""Losses between a codec and its discriminators, of their feature maps (discriminators.py).

`fake` and `real` are the feature maps of reconstructed and of real audio: of every discriminator a
list of arrays, of which the last is the score. All losses are float32 scalars. A generator's losses
take `real` as constants. Where `fake` and `real` differ in number, `ValueError` is raised.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

Maps = Sequence[Sequence[jax.Array]]


def lsgan_discriminator_loss(fake: Maps, real: Maps) -> jax.Array:
    """Sum over discriminators of the squares by which scores miss 0 for fake, 1 for real audio.

    Kumar et al. 2023, section 3.5 (Mao et al. 2017); dac/nn/loss.py, GANLoss. The reference takes
    no gradient with respect to fake audio here; nor should the caller.
    """
    return sum(
        (_mean_square(f[-1]) + _mean_square(1 - r[-1]) for f, r in zip(fake, real, strict=True)),
        start=jnp.float32(0),
    )


def lsgan_generator_loss(fake: Maps) -> jax.Array:
    """Sum over discriminators of the squares by which the scores of fake audio miss 1."""
    return sum((_mean_square(1 - maps[-1]) for maps in fake), start=jnp.float32(0))


def hinge_discriminator_loss(fake: Maps, real: Maps) -> jax.Array:
    """Mean over discriminators of max(0, 1 + fake score) + max(0, 1 - real score).

    Defossez et al. 2022, section 3.4; audiocraft/adversarial/losses.py, "hinge".
    """
    losses = [
        _mean(jax.nn.relu(1 + f[-1])) + _mean(jax.nn.relu(1 - r[-1]))
        for f, r in zip(fake, real, strict=True)
    ]
    return _mean_of(losses)


def hinge_generator_loss(fake: Maps) -> jax.Array:
    """Minus the mean of the scores of fake audio, averaged over the discriminators.

    audiocraft's "hinge". The paper's max(0, 1 - score) is `saturating_hinge_generator_loss`.
    """
    return _mean_of([-_mean(maps[-1]) for maps in fake])


def saturating_hinge_generator_loss(fake: Maps) -> jax.Array:
    """Mean over discriminators of max(0, 1 - score) of fake audio.

    Defossez et al. 2022, section 3.4; audiocraft's "hinge2".
    """
    return _mean_of([_mean(jax.nn.relu(1 - maps[-1])) for maps in fake])


def summed_feature_loss(fake: Maps, real: Maps) -> jax.Array:
    """Sum the mean absolute differences of all maps but the scores.

    Kumar et al. 2023, section 3.5; dac/nn/loss.py, GANLoss.
    """
    return sum(
        (loss for losses in _differences(fake, real) for loss in losses), start=jnp.float32(0)
    )


def mean_feature_loss(fake: Maps, real: Maps, relative: bool = False) -> jax.Array:
    """Average the mean absolute differences of all maps but the scores, then the discriminators.

    audiocraft/adversarial/losses.py, FeatureMatchingLoss within AdversarialLoss.
    relative: divide each difference by the mean magnitude of the real map, as Defossez et al. 2022,
        section 3.4, have it; audiocraft computes that magnitude, but leaves it out
    """
    return _mean_of([_mean_of(losses) for losses in _differences(fake, real, relative)])


def _differences(fake: Maps, real: Maps, relative: bool = False) -> list[list[jax.Array]]:
    return [
        [_mean_difference(f, lax.stop_gradient(r), relative) for f, r in zip(fs, rs, strict=True)][
            :-1
        ]
        for fs, rs in zip(fake, real, strict=True)
    ]


def _mean_difference(fake, real, relative):
    difference = _mean(jnp.abs(fake - real))
    return difference / _mean(jnp.abs(real)) if relative else difference


def _mean_square(scores):
    return _mean(jnp.square(scores))


def _mean(array):
    return jnp.mean(array, dtype=jnp.float32)


def _mean_of(losses: list[jax.Array]) -> jax.Array:
    return jnp.mean(jnp.stack(losses))
