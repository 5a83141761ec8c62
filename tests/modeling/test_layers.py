"""Each layer against its definition, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codax.configuration.conv_geometry import Conv, Group, Snake, Tanh
from codax.modeling.layers import FlaxConv, FlaxConvTranspose, FlaxLayers, FlaxSnake

# Sums of at most some dozens of float32 products of order one, each rounded by 6e-8.
TOLERANCE = 3e-6
EXACTLY = {"dtype": jnp.float32, "precision": lax.Precision.HIGHEST}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def run(module, params, signal, padded=True):
    """One compiled program: op by op, each would be compiled by itself."""
    compute = jax.jit(module.apply, static_argnums=2)
    return np.asarray(compute({"params": params}, signal, padded))


def activate(alpha, signal):
    compute = jax.jit(FlaxSnake(Snake("snake", len(alpha))).apply)
    return compute({"params": {"alpha": alpha}}, signal)


def convolve(signal, kernel, conv, padding):
    """[T, C_in] and [K, C_in, C_out] -> [T', C_out]"""
    signal = np.pad(signal.astype(np.float64), ((padding, padding), (0, 0)))
    starts = range(0, len(signal) - conv.span, conv.stride)
    taps = np.arange(conv.kernel_size) * conv.dilation
    return np.array([np.einsum("ki,kio->o", signal[start + taps], kernel) for start in starts])


def convolve_transposed(signal, kernel, conv, padding):
    """[F, C_in] and [C_in, K, C_out] -> [T', C_out]"""
    full = np.zeros(((len(signal) - 1) * conv.stride + conv.kernel_size, conv.out_channels))
    for frame, values in enumerate(signal.astype(np.float64)):
        start = frame * conv.stride
        full[start : start + conv.kernel_size] += np.einsum("i,iko->ko", values, kernel)
    return full[padding : len(full) - padding]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    ("kernel_size", "stride", "dilation", "padding"),
    [(7, 1, 1, 3), (7, 1, 9, 27), (10, 5, 1, 3), (4, 2, 1, 1), (1, 1, 1, 0), (3, 1, 1, 1)],
)
def test_convolution_follows_its_definition(kernel_size, stride, dilation, padding, padded):
    conv = Conv("conv", 3, 4, kernel_size, stride, dilation, (padding, padding))
    signal, kernel, bias = normal(2, 61, 3), normal(kernel_size, 3, 4, seed=1), normal(4, seed=2)
    params = {"kernel": kernel, "bias": bias}
    result = run(FlaxConv(conv, **EXACTLY), params, signal, padded)
    expected = [convolve(item, kernel, conv, padding if padded else 0) + bias for item in signal]
    assert result.shape[1] == conv.output_length(61, padded)
    np.testing.assert_allclose(result, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize(
    ("frames", "stride", "padding"), [(6, 1, 0), (1, 2, 1), (6, 3, 2), (2, 5, 3), (6, 8, 4)]
)
def test_transposed_convolution_follows_its_definition(frames, stride, padding, padded):
    conv = Conv("conv_t", 3, 4, 2 * stride, stride, padding=(padding, padding), transposed=True)
    signal = normal(2, frames, 3)
    kernel, bias = normal(3, 2 * stride, 4, seed=1), normal(4, seed=2)
    head, tail = np.split(kernel, 2, axis=1)
    params = {"kernel": np.stack([tail, head]).reshape(2, 3, -1), "bias": bias}
    result = run(FlaxConvTranspose(conv, **EXACTLY), params, signal, padded)
    cropped = padding if padded else 0
    expected = [convolve_transposed(item, kernel, conv, cropped) + bias for item in signal]
    assert result.shape[1] == conv.output_length(frames, padded)
    np.testing.assert_allclose(result, expected, atol=TOLERANCE, rtol=TOLERANCE)


def snake(signal, alpha):
    signal, alpha = signal.astype(np.float64), alpha.astype(np.float64)
    return signal + np.sin(alpha * signal) ** 2 / (alpha + 1e-9)


@pytest.mark.parametrize("loudness", [1e-3, 1.0, 30.0, 1000.0, 1e6])
def test_snake_follows_its_definition(loudness):
    alpha = np.float32([0.3, 1.0, 2.5, -1.5])
    signal = loudness * normal(2, 500, 4)
    # The sine is good to 1.5e-7, divided by alpha; the angle alpha * x is rounded to float32.
    tolerance = 1e-6 + np.finfo(np.float32).eps * np.abs(signal).max()
    np.testing.assert_allclose(activate(alpha, signal), snake(signal, alpha), atol=tolerance)


@pytest.mark.parametrize("loudness", [1e4, 1e7, 1e9, 1e30])
def test_snake_never_adds_more_than_one_over_alpha(loudness):
    alpha = np.float32([0.3, 1.0, 2.5])
    signal = loudness * normal(2, 500, 3)
    added = np.asarray(activate(alpha, signal), np.float64) - signal
    # Adding to a large sample rounds by half a step of it.
    rounding = np.finfo(np.float32).eps * np.abs(signal)
    assert (added >= -rounding).all()
    assert (added <= 1 / alpha * (1 + 1e-6) + rounding).all()


def test_snake_with_alpha_zero_passes_the_signal_on():
    signal = normal(1, 50, 1)
    np.testing.assert_array_equal(activate(np.zeros(1, np.float32), signal), signal)


def test_gradient_of_snake_is_one_plus_the_sine_of_the_double_angle():
    alpha, signal = np.float32([0.7, 1.9]), 5 * normal(1, 400, 2)
    slopes = jax.jit(jax.grad(lambda signal: activate(alpha, signal).sum()))(signal)
    expected = 1 + np.sin(2 * alpha.astype(np.float64) * signal)
    # An approximated sine may differ more in its slope than in its value.
    np.testing.assert_allclose(slopes, expected, atol=2e-6)


def test_what_convolutions_in_bfloat16_are_added_to_is_not_rounded():
    conv = Conv("conv", 2, 2, kernel_size=1)
    group = FlaxLayers(
        (Group("unit", (conv,), residual=True),), jnp.bfloat16, lax.Precision.HIGHEST
    )
    signal = normal(1, 50, 2)
    params = {"unit": {"conv": {"kernel": np.zeros((1, 2, 2), "f4"), "bias": np.zeros(2, "f4")}}}
    np.testing.assert_array_equal(run(group, params, signal, True), signal)


def test_residual_group_adds_the_centre_of_its_input():
    conv = Conv("conv", 2, 2, kernel_size=7, dilation=3, padding=(9, 9))
    group = FlaxLayers((Group("unit", (conv,), residual=True), Tanh()), **EXACTLY)
    signal, kernel = normal(1, 40, 2), 0.1 * normal(7, 2, 2, seed=1)
    params = {"unit": {"conv": {"kernel": kernel, "bias": np.zeros(2, "f4")}}}
    for padded, padding, crop in ((True, 9, 0), (False, 0, 9)):
        result = run(group, params, signal, padded)
        entered = signal[0, crop : 40 - crop]
        expected = np.tanh(entered + convolve(signal[0], kernel, conv, padding))
        np.testing.assert_allclose(result[0], expected, atol=TOLERANCE)
