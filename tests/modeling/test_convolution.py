"""Gradients of convolutions equal XLA's own, for every way that sizes choose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codax.modeling import convolution
from codax.modeling.activations import snake
from codax.modeling.convolution import DIMENSIONS, FEWEST_CHANNELS, FEWEST_POSITIONS, convolve

LONG = FEWEST_POSITIONS + 7
HIGHEST = lax.Precision.HIGHEST

# input, kernel, strides, padding, dilations
CASES = {
    "short": ((2, 50, 3), (7, 3, 5), (1,), ((3, 3),), (1,)),
    "short, dilated": ((2, 50, 3), (7, 3, 5), (1,), ((9, 9),), (3,)),
    "short, strided": ((2, 53, 3), (16, 3, 5), (8,), ((4, 4),), (1,)),
    "short, a rest that no window reaches": ((2, 43, 3), (3, 3, 4), (4,), ((0, 0),), (1,)),
    "short, two axes": ((2, 40, 27, 3), (3, 9, 3, 4), (1, 2), ((2, 2), (4, 4)), (2, 1)),
    "short, dilated between strides": ((2, 60, 3), (3, 3, 4), (2,), ((2, 2),), (2,)),
    "long": ((1, LONG, 3), (7, 3, 5), (1,), ((3, 3),), (1,)),
    "long, causal and dilated": ((1, LONG, 3), (3, 3, 5), (1,), ((18, 0),), (9,)),
    "long, longer than its input": ((1, LONG, 3), (2, 3, 5), (1,), ((1, 1),), (1,)),
    "long, strided": ((2, LONG, 3), (4, 3, 4), (2,), ((1, 1),), (1,)),
    "long, strided, of many channels": (
        (3, LONG, FEWEST_CHANNELS), (5, FEWEST_CHANNELS, 4), (3,), ((2, 2),), (1,)
    ),
    "long, stride beyond the kernel": ((4, LONG, 3), (2, 3, 4), (3,), ((0, 0),), (1,)),
    "long, two axes": ((2, 700, 3, 3), (4, 3, 3, 4), (3, 1), ((2, 1), (1, 1)), (1, 2)),
}  # fmt: skip


def pulled_back(function, arrays, seed=1):
    """What a random cotangent becomes."""
    result, pull_back = jax.vjp(function, *arrays)
    cotangent = np.random.default_rng(seed).standard_normal(result.shape)
    return jax.jit(pull_back)(jnp.asarray(cotangent, result.dtype))


def arrays_of(*shapes):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_xla(case):
    input_shape, kernel_shape, strides, padding, dilations = CASES[case]

    def of_xla(hidden, kernel):
        return lax.conv_general_dilated(
            hidden,
            kernel,
            strides,
            padding,
            rhs_dilation=dilations,
            dimension_numbers=DIMENSIONS[len(strides)],
            precision=HIGHEST,
        )

    def ours(hidden, kernel):
        return convolve(hidden, kernel, strides, padding, dilations, HIGHEST)

    arrays = arrays_of(input_shape, kernel_shape)
    np.testing.assert_array_equal(ours(*arrays), of_xla(*arrays))
    for gradient, expected in zip(
        pulled_back(ours, arrays), pulled_back(of_xla, arrays), strict=True
    ):
        assert gradient.shape == expected.shape
        scale = float(jnp.abs(expected).max())
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=2e-6 * scale)


@pytest.fixture(params=["few channels", "many channels"])
def channels(request, monkeypatch):
    """Both ways of products in bfloat16, whatever the number of channels."""
    fewest = {"few channels": 1024, "many channels": 1}[request.param]
    monkeypatch.setattr(convolution, "FEWEST_CHANNELS_OF_WINDOWS", fewest)


@pytest.mark.usefixtures("channels")
@pytest.mark.parametrize("case", CASES)
def test_products_in_bfloat16_are_added_up_in_float32(case):
    """On CPUs: equal to what float32 makes of the rounded factors, but for the order of sums."""
    input_shape, kernel_shape, *geometry = CASES[case]
    arrays = arrays_of(input_shape, kernel_shape)
    rounded = [array.astype(jnp.bfloat16).astype(jnp.float32) for array in arrays]
    found = convolve(*arrays, *geometry, HIGHEST, dtype=jnp.bfloat16)
    expected = convolve(*rounded, *geometry, HIGHEST)
    assert found.dtype == jnp.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * float(jnp.abs(expected).max()))


@pytest.mark.usefixtures("channels")
@pytest.mark.parametrize("case", CASES)
def test_gradients_of_products_in_bfloat16_are_float32(case):
    input_shape, kernel_shape, *geometry = CASES[case]
    arrays = arrays_of(input_shape, kernel_shape)
    for gradient, exact in zip(
        pulled_back(lambda *a: convolve(*a, *geometry, HIGHEST, dtype=jnp.bfloat16), arrays),
        pulled_back(lambda *a: convolve(*a, *geometry, HIGHEST), arrays),
        strict=True,
    ):
        assert gradient.dtype == jnp.float32
        # Three roundings by up to 2^-9, of what is multiplied and of the result.
        np.testing.assert_allclose(gradient, exact, rtol=0, atol=2e-2 * float(jnp.abs(exact).max()))


def test_gradients_of_snake_are_those_of_its_formula():
    signal, alpha = arrays_of((2, 400, 6), (6,))
    signal, alpha = 30 * signal, jnp.abs(alpha) + 0.1

    def formula(signal, alpha):
        return signal + jnp.sin(alpha * signal) ** 2 / (alpha + 1e-9)

    with jax.enable_x64(True):
        double = [jnp.asarray(array, jnp.float64) for array in (signal, alpha)]
        expected = [np.asarray(one) for one in pulled_back(formula, double)]
    for gradient, one in zip(pulled_back(snake, (signal, alpha)), expected, strict=True):
        scale = np.abs(one).max()
        np.testing.assert_allclose(gradient, one, rtol=0, atol=3e-6 * scale)


def test_lowered_for_accelerators_their_own_gradients_are_used():
    def gradient(hidden, kernel):
        return jax.grad(lambda *arrays: jnp.sum(convolve(*arrays, (2,), ((1, 1),), (1,), HIGHEST)))(
            hidden, kernel
        )

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 64, 8), (4, 8, 8))]
    texts = {
        platform: str(
            jax.export.export(jax.jit(gradient), platforms=[platform])(*shapes).mlir_module()
        )
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "lhs_dilate = [2]" not in texts["cpu"]
    for platform in ("cuda", "tpu"):
        assert "lhs_dilate = [2]" in texts[platform]
