"""ELU against exp(x) - 1 in float64; sin^2 is tested as Snake, in test_layers."""

import jax
import jax.numpy as jnp
import numpy as np

from codax.configuration.conv_geometry import Elu
from codax.modeling.activations import elu
from codax.modeling.layers import FlaxLayers

SIGNAL = np.concatenate(
    [-np.logspace(-9, 2, 200_001), np.linspace(-3, 3, 100_001), [0, -0.0, 1e30, -1e30]]
).astype(np.float32)


def exact(signal):
    signal = signal.astype(np.float64)
    return np.where(signal > 0, signal, np.expm1(np.minimum(signal, 0)))


def test_elu_follows_its_definition():
    result = np.asarray(jax.jit(elu)(SIGNAL), np.float64)
    # Half a step of float32 below 1, and some of them relative to small values.
    np.testing.assert_allclose(result, exact(SIGNAL), atol=6e-8, rtol=0)
    np.testing.assert_allclose(result, exact(SIGNAL), atol=0, rtol=2.5e-7)


def test_elu_of_what_is_no_number():
    result = jax.jit(elu)(np.float32([np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(result, [np.nan, np.inf, -1])


def test_gradient_of_elu_is_the_exponential_below_zero_and_one_above():
    slopes = jax.jit(jax.grad(lambda signal: elu(signal).sum()))(SIGNAL)
    expected = np.exp(np.minimum(SIGNAL, 0).astype(np.float64))
    # An approximation may differ more in its slope than in its value.
    np.testing.assert_allclose(slopes, expected, atol=5e-7)


def test_elu_layer_rounds_nothing_where_products_are_bfloat16():
    layers = FlaxLayers((Elu(),), dtype=jnp.bfloat16, precision=jax.lax.Precision.HIGHEST)
    signal = jnp.asarray(SIGNAL[:1000, None, None])
    result = jax.jit(layers.apply)({}, signal)
    assert result.dtype == jnp.float32
    np.testing.assert_array_equal(result, elu(signal))
