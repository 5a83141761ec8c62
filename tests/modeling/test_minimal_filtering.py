"""Convolutions by fewer products are those by all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codax.modeling import minimal_filtering
from codax.modeling.convolution import convolve
from codax.modeling.minimal_filtering import filtered, has_fewer_products

HIGHEST = lax.Precision.HIGHEST
# Of the outputs' level: sums of neighbours are rounded before they are multiplied.
LARGEST = 3e-5


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def exact(hidden, kernel, padding, dilation):
    """By the definition, in float64."""
    padded = np.pad(hidden, ((0, 0), padding, (0, 0)))
    length = padded.shape[1] - (len(kernel) - 1) * dilation
    starts = (tap * dilation for tap in range(len(kernel)))
    under = [padded[:, start : start + length] for start in starts]
    return sum(rows @ tap for rows, tap in zip(under, kernel, strict=True))


@pytest.mark.parametrize("dilation", [1, 3, 9])
@pytest.mark.parametrize(
    ("batch", "length", "padding"),
    [(1, 200, (3, 3)), (2, 55, (0, 0)), (3, 61, (5, 0)), (1, 64, (0, 9))],
)
def test_outputs_are_those_of_the_definition(batch, length, padding, dilation):
    hidden, kernel = noise(batch, length, 5), noise(7, 5, 6, seed=1) / 35**0.5
    found = filtered(jnp.float32(hidden), jnp.float32(kernel), padding, dilation, precision=HIGHEST)
    expected = exact(hidden, kernel, padding, dilation)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=LARGEST)


def test_rounding_is_as_small_as_is_said():
    hidden, kernel = noise(1, 240, 384), noise(7, 384, 384, seed=1) / (7 * 384) ** 0.5
    hidden, kernel = hidden.astype(np.float32), kernel.astype(np.float32)
    found = filtered(jnp.asarray(hidden), jnp.asarray(kernel), (3, 3), 1, precision=HIGHEST)
    error = found - exact(hidden.astype(float), kernel.astype(float), (3, 3), 1)
    assert np.sqrt(np.mean(error**2)) < 1.6e-6
    assert np.max(np.abs(error)) < LARGEST


def zeros(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def test_it_is_for_seven_taps_of_many_channels():
    hidden, kernel = zeros(1, 600, 192), zeros(7, 192, 192)
    assert has_fewer_products(hidden, kernel, stride=1)
    assert not has_fewer_products(hidden, kernel, stride=2)
    assert not has_fewer_products(hidden, zeros(3, 192, 192), stride=1)
    assert not has_fewer_products(hidden, zeros(7, 192, 1), stride=1)
    assert not has_fewer_products(zeros(1, 500, 192), kernel, stride=1)
    half = (zeros(*one.shape, dtype=jnp.bfloat16) for one in (hidden, kernel))
    assert not has_fewer_products(*half, stride=1)


def test_convolutions_and_their_gradients_take_it(monkeypatch):
    def outputs_and_gradients():
        def run(hidden, kernel):
            return convolve(hidden, kernel, (1,), ((9, 9),), (3,), HIGHEST)

        outputs, pull_back = jax.vjp(run, hidden, kernel)
        return outputs, *pull_back(jnp.cos(outputs))

    hidden = jnp.float32(noise(2, 90, 8))
    kernel = jnp.float32(noise(7, 8, 8, seed=1)) / 56**0.5
    plain = outputs_and_gradients()
    for name in ("FEWEST_CHANNELS", "FEWEST_POSITIONS"):
        monkeypatch.setattr(minimal_filtering, name, 1)
    fewer = outputs_and_gradients()
    for expected, found in zip(plain, fewer, strict=True):
        scale = jnp.max(jnp.abs(expected))
        assert jnp.any(found != expected)
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=LARGEST)
