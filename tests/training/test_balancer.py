"""The loss balancer, against audiocraft's and by what it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.training.balancer import balance, initial_balancer

WEIGHTS = {"adv": 4.0, "feat": 4.0, "l1": 0.1}
SCALES = {"adv": 1e-3, "feat": 5.0, "l1": 0.2}

# By audiocraft 1.3.0, audiocraft/losses/balancer.py, with the gradients of `gradients_of`,
# ema_decay 0.9 and total_norm 2: at steps 0 to 3 the balanced gradient's first samples, and the
# share of "adv" in the norms. encodec/balancer.py on GitHub has the same formula.
OF_AUDIOCRAFT = {
    True: [
        [-0.42282089591026306, 0.10700572282075882, -0.27558210492134094, 0.00024058984827652266],
        [0.7381776571273804, 0.4009503722190857, -1.2802934646606445, 0.0001509294369459545],
        [0.0961962565779686, 1.52935791015625, 1.352793574333191, 0.00017176330981970853],
        [1.0161476135253906, -0.11036119610071182, 0.5864816308021545, 0.000232658313564565],
    ],
    False: [
        [-0.24391861259937286, 0.05425314977765083, -0.1454770565032959, 0.0002568210841911656],
        [0.4015476405620575, 0.2190341055393219, -0.6935766339302063, 0.0001498088962215437],
        [0.05358266085386276, 0.8193034529685974, 0.7242544293403625, 0.00016694143732346378],
        [0.548846960067749, -0.059598587453365326, 0.3161487877368927, 0.00023223409838792855],
    ],
}


def gradients_of(step):
    """float32 [3, 1, 5] of three losses of very different scales, which grow."""
    generator = np.random.default_rng(step)
    return {
        name: (scale * (1 + step) * generator.standard_normal((3, 1, 5))).astype(np.float32)
        for name, scale in SCALES.items()
    }


@pytest.mark.parametrize("per_item", [True, False], ids=["per_item", "per_batch"])
def test_four_steps_equal_audiocrafts(per_item):
    options = {"ema_decay": 0.9, "total_norm": 2.0, "per_item": per_item}
    run = jax.jit(lambda gradients, state: balance(gradients, WEIGHTS, state, **options))
    state = initial_balancer(WEIGHTS)
    for step, expected in enumerate(OF_AUDIOCRAFT[per_item]):
        balanced = run(gradients_of(step), state)
        state = balanced.state
        actual = [*balanced.gradient[:, 0, 0], balanced.norm_ratios["adv"]]
        # Sums of a few float32 numbers of order one.
        np.testing.assert_allclose(actual, expected, rtol=2e-5, err_msg=f"step {step}")


def test_each_loss_has_its_weights_share_of_the_norm_whatever_its_scale():
    gradients = gradients_of(0)
    balanced = balance(gradients, WEIGHTS, initial_balancer(WEIGHTS), total_norm=3.0)
    shares = {
        name: jnp.mean(jnp.linalg.norm(balanced.scales[name] * gradient[:, 0], axis=-1))
        for name, gradient in gradients.items()
    }
    for name, weight in WEIGHTS.items():
        np.testing.assert_allclose(shares[name], 3.0 * weight / 8.1, rtol=1e-5)


def test_gradients_of_zero_stay_zero():
    gradients = {name: jnp.zeros((2, 1, 4)) for name in WEIGHTS}
    balanced = balance(gradients, WEIGHTS, initial_balancer(WEIGHTS))
    np.testing.assert_array_equal(balanced.gradient, 0)
    np.testing.assert_array_equal(list(balanced.norm_ratios.values()), 0)


def test_losses_that_differ_in_name_are_an_error():
    gradients = {"adv": jnp.ones((1, 1, 2))}
    message = r"same losses; got \['adv'\], \['feat'\] and \['adv'\]"
    with pytest.raises(ValueError, match=message):
        balance(gradients, {"feat": 1.0}, initial_balancer(["adv"]))


def test_weights_of_zero_are_an_error():
    gradients = {"adv": jnp.ones((1, 1, 2))}
    with pytest.raises(ValueError, match=r"sum to a positive number; got \{'adv': 0\}"):
        balance(gradients, {"adv": 0}, initial_balancer(["adv"]))
