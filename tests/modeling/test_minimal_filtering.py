"""Convolutions by fewer products are those by all of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codax.modeling import minimal_filtering
from codax.modeling.convolution import convolve
from codax.modeling.minimal_filtering import (
    filtered,
    has_fewer_products,
    tap_factors,
    taps_gradient,
    taps_of_strides,
)

HIGHEST = lax.Precision.HIGHEST
# Of the outputs' level: sums of neighbours are rounded before they are multiplied.
LARGEST = 3e-5

CASES = [(2, 1), *((taps, dilation) for taps in (5, 7) for dilation in (1, 3, 9))]
SHAPES = [(1, 200, (3, 3)), (2, 55, (0, 0)), (3, 61, (5, 0)), (1, 64, (0, 9))]


@pytest.fixture(params=["samples", "pairs"])
def frames(request, monkeypatch):
    """Both ways of taking samples, whatever the number of channels."""
    most = {"samples": 0, "pairs": 1024}[request.param]
    monkeypatch.setattr(minimal_filtering, "MOST_CHANNELS_OF_PAIRS", most)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def exact(hidden, kernel, padding, dilation):
    """By the definition, in float64."""
    under = under_taps(hidden, len(kernel), padding, dilation)
    return sum(rows @ tap for rows, tap in zip(under, kernel, strict=True))


def under_taps(hidden, taps, padding, dilation):
    padded = np.pad(hidden, ((0, 0), padding, (0, 0)))
    length = padded.shape[1] - (taps - 1) * dilation
    return [padded[:, start : start + length] for start in range(0, taps * dilation, dilation)]


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize(("taps", "dilation"), CASES)
@pytest.mark.parametrize(("batch", "length", "padding"), SHAPES)
def test_outputs_are_those_of_the_definition(batch, length, padding, taps, dilation):
    hidden, kernel = noise(batch, length, 5), noise(taps, 5, 6, seed=1) / (5 * taps) ** 0.5
    factors = tap_factors(jnp.float32(kernel))
    found = filtered(jnp.float32(hidden), factors, taps, padding, dilation, precision=HIGHEST)
    expected = exact(hidden, kernel, padding, dilation)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=LARGEST)


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize(("taps", "dilation"), CASES)
@pytest.mark.parametrize(("batch", "length", "padding"), SHAPES)
def test_gradients_of_taps_are_those_of_the_definition(batch, length, padding, taps, dilation):
    hidden, kernel = noise(batch, length, 5), noise(taps, 5, 6)
    under = under_taps(hidden, taps, padding, dilation)
    cotangent = noise(*under[0].shape[:2], 6, seed=1) / under[0].shape[1] ** 0.5
    found = taps_gradient(
        jnp.float32(hidden),
        jnp.float32(cotangent),
        jnp.float32(kernel),
        padding,
        dilation,
        precision=HIGHEST,
    )
    expected = [np.einsum("bti,bto->io", rows, cotangent) for rows in under]
    np.testing.assert_allclose(found, expected, rtol=0, atol=LARGEST)


@pytest.mark.usefixtures("frames")
def test_rounding_is_as_small_as_is_said():
    hidden, kernel = noise(1, 240, 384), noise(7, 384, 384, seed=1) / (7 * 384) ** 0.5
    hidden, kernel = hidden.astype(np.float32), kernel.astype(np.float32)
    factors = tap_factors(jnp.asarray(kernel))
    found = filtered(jnp.asarray(hidden), factors, 7, (3, 3), 1, precision=HIGHEST)
    error = found - exact(hidden.astype(float), kernel.astype(float), (3, 3), 1)
    assert np.sqrt(np.mean(error**2)) < 1.6e-6
    assert np.max(np.abs(error)) < LARGEST


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize("taps", [2, 5, 7])
def test_factors_of_numpy_are_those_of_jax_rounded_once(taps):
    kernel = noise(taps, 8, 6).astype(np.float32)
    found, traced = tap_factors(kernel), jax.jit(lambda taps: tap_factors(taps))(kernel)
    exactly = tap_factors(kernel.astype(np.float64))
    for once, often, exact_one in zip(found, traced, exactly, strict=True):
        assert isinstance(once, np.ndarray)
        np.testing.assert_array_equal(once, exact_one.astype(np.float32))
        np.testing.assert_allclose(often, once, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("frames")
def test_products_in_bfloat16_lose_little_more_than_without_fewer():
    """Sums of inputs and of taps are rounded instead of these; what they give is float32."""
    hidden, kernel = noise(1, 240, 384), noise(7, 384, 384, seed=1) / (7 * 384) ** 0.5
    hidden, kernel = jnp.float32(hidden), jnp.float32(kernel)
    factors = tap_factors(kernel, jnp.bfloat16)
    assert {factor.dtype for factor in factors} == {jnp.dtype(jnp.bfloat16)}
    found = filtered(hidden, factors, 7, (3, 3), 1, precision=HIGHEST)
    assert found.dtype == jnp.float32
    rounded = (np.float64(array.astype(jnp.bfloat16)) for array in (hidden, kernel))
    plain = exact(*rounded, (3, 3), 1)
    exactly = exact(np.float64(hidden), np.float64(kernel), (3, 3), 1)
    error, plain_error = (np.sqrt(np.mean((one - exactly) ** 2)) for one in (found, plain))
    assert plain_error < error < 4 * plain_error


def zeros(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


@pytest.mark.parametrize("are_kept", [True, False])
def test_it_is_for_five_or_seven_taps_of_many_channels(are_kept):
    hidden, kernel = zeros(1, 600, 192), zeros(7, 192, 192)
    for dtype in (jnp.float32, jnp.bfloat16):
        assert has_fewer_products(hidden, kernel, dtype, are_kept)
        assert has_fewer_products(hidden, zeros(5, 192, 192), dtype, are_kept)
        assert not has_fewer_products(hidden, zeros(3, 192, 192), dtype, are_kept)
        assert not has_fewer_products(hidden, zeros(4, 192, 192), dtype, are_kept)
        assert not has_fewer_products(hidden, zeros(7, 192, 1), dtype, are_kept)
        assert not has_fewer_products(zeros(1, 500, 192), kernel, dtype, are_kept)
    assert not has_fewer_products(hidden, kernel, jnp.float16, are_kept)


def test_it_is_for_two_taps_whose_factors_are_kept():
    frames, kernel = zeros(1, 200, 1536), zeros(2, 1536, 192)
    assert has_fewer_products(frames, kernel, jnp.float32, True)
    assert not has_fewer_products(frames, kernel, jnp.float32, False)
    assert not has_fewer_products(frames, kernel, jnp.bfloat16, True)
    assert not has_fewer_products(zeros(1, 100, 1536), kernel, jnp.float32, True)
    assert not has_fewer_products(frames, zeros(2, 1536, 64), jnp.float32, True)
    assert not has_fewer_products(frames, zeros(2, 1536, 6144), jnp.float32, True)


@pytest.mark.parametrize("padding", [(0, 0), (3, 2), (0, 7), (4, 0)])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_windows_of_two_strides_take_it_where_factors_are_known(stride, padding, monkeypatch):
    for name in ("FEWEST_CHANNELS_OF_TWO_TAPS", "FEWEST_FRAMES"):
        monkeypatch.setattr(minimal_filtering, name, 1)
    kernel = jnp.float32(noise(2 * stride, 6, 8, seed=1)) / (12 * stride) ** 0.5
    factors = tap_factors(taps_of_strides(np.asarray(kernel), stride))
    for length in (4 * stride, 5 * stride + 1, 6 * stride, 7 * stride - 1):
        hidden = jnp.float32(noise(2, length, 6))
        geometry = ((stride,), (padding,), (1,), HIGHEST)
        plain = convolve(hidden, kernel, *geometry)
        fewer = convolve(hidden, kernel, *geometry, factors)
        assert jnp.any(fewer != plain)
        np.testing.assert_allclose(fewer, plain, rtol=0, atol=LARGEST)


def test_other_kernels_have_no_taps_of_strides():
    kernel = np.zeros((7, 5, 4))
    assert taps_of_strides(kernel, 1) is kernel
    assert taps_of_strides(kernel, 3) is None
    assert taps_of_strides(np.zeros((6, 5, 4)), 3).shape == (2, 15, 4)


ALONG_TIME = ((2, 90, 8), (7, 8, 8), (1,), ((9, 9),), (3,))
ALONG_COLUMNS = ((2, 90, 3, 8), (5, 1, 8, 8), (1, 1), ((2, 2), (0, 0)), (1, 1))


@pytest.mark.usefixtures("frames")
@pytest.mark.parametrize("case", [ALONG_TIME, ALONG_COLUMNS], ids=["along time", "along columns"])
def test_convolutions_and_their_gradients_take_it(case, monkeypatch):
    shape, kernel_shape, *geometry = case

    def outputs_and_gradients(hidden, kernel, factors=None, dtype=jnp.float32):
        run = partial(convolve, precision=HIGHEST, factors=factors, dtype=dtype)
        outputs, pull_back = jax.vjp(lambda *inputs: run(*inputs, *geometry), hidden, kernel)
        return outputs, *pull_back(jnp.cos(outputs))

    hidden = jnp.float32(noise(*shape))
    kernel = jnp.float32(noise(*kernel_shape, seed=1)) / 56**0.5
    plain = outputs_and_gradients(hidden, kernel)
    for name in ("FEWEST_CHANNELS", "FEWEST_POSITIONS"):
        monkeypatch.setattr(minimal_filtering, name, 1)
    fewer = outputs_and_gradients(hidden, kernel)
    line = np.asarray(kernel).reshape(len(kernel), *kernel_shape[-2:])
    with_factors = outputs_and_gradients(hidden, kernel, tap_factors(line))
    for found in (fewer, with_factors):
        for one, expected in zip(found, plain, strict=True):
            scale = jnp.max(jnp.abs(expected))
            assert jnp.any(one != expected)
            np.testing.assert_allclose(one / scale, expected / scale, rtol=0, atol=LARGEST)
    # Rounded are sums of inputs and of taps, by 2^-9, not what weights make of rounded sums.
    for one, expected in zip(
        outputs_and_gradients(hidden, kernel, dtype=jnp.bfloat16), plain, strict=True
    ):
        error = jnp.sqrt(jnp.mean((one - expected) ** 2) / jnp.mean(expected**2))
        assert 1e-3 < error < 0.015
