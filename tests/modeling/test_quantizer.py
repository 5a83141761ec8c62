"""Residual quantization against its definition, written out in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from codax.modeling.quantizer import FlaxCodebook, FlaxResidualVectorQuantizer

from .tiny import tiny_config, tiny_params

LEVELS, WIDTH, SIZE, DIM = 3, 16, 16, 4
# Three levels of float32 products of order one.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def quantizer():
    return FlaxResidualVectorQuantizer(LEVELS, WIDTH, SIZE, DIM, lax.Precision.HIGHEST)


@pytest.fixture(scope="module")
def params():
    return tiny_params(tiny_config())["quantizer"]


@pytest.fixture(scope="module")
def latents():
    return np.random.default_rng(3).standard_normal((2, 7, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(quantizer, params, latents):
    return run(quantizer, params, latents, n_quantizers=LEVELS)


def run(module, params, *arrays, method="__call__", **static):
    """One compiled program: op by op, each would be compiled by itself."""
    compute = jax.jit(partial(module.apply, method=method, **static))
    return compute({"params": params}, *arrays)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def define(params, latents, levels):
    """codes [B, K, F], quantized [B, F, D], projected [B, F, K * d], the loss of each level."""
    residual = latents.astype(np.float64)
    codes, quantized, projected, losses = [], 0, [], []
    for level in range(levels):
        weights = jax.tree.map(np.float64, params[f"quantizers_{level}"])
        down, up = weights["in_proj"], weights["out_proj"]
        encodings = residual @ down["kernel"][0] + down["bias"]
        embedding = weights["codebook"]["embedding"]
        nearest = np.argmax(unit(encodings) @ unit(embedding).T, axis=-1)
        contribution = embedding[nearest] @ up["kernel"][0] + up["bias"]
        residual, quantized = residual - contribution, quantized + contribution
        codes.append(nearest)
        projected.append(encodings)
        losses.append(np.mean((encodings - embedding[nearest]) ** 2))
    return np.stack(codes, 1), quantized, np.concatenate(projected, -1), losses


def test_each_level_quantizes_what_the_levels_before_left(quantized, params, latents):
    codes, sum_of_levels, projected, losses = define(params, latents, LEVELS)
    np.testing.assert_array_equal(quantized.codes, codes)
    np.testing.assert_allclose(quantized.quantized, sum_of_levels, atol=TOLERANCE)
    np.testing.assert_allclose(quantized.projected_latents, projected, atol=TOLERANCE)
    np.testing.assert_allclose(quantized.commitment_loss, sum(losses), rtol=TOLERANCE)
    np.testing.assert_allclose(quantized.codebook_loss, sum(losses), rtol=TOLERANCE)


def test_fewer_levels_are_the_first_ones(quantizer, quantized, params, latents):
    first = run(quantizer, params, latents, n_quantizers=2)
    np.testing.assert_array_equal(first.codes, quantized.codes[:, :2])
    np.testing.assert_array_equal(first.projected_latents, quantized.projected_latents[..., :8])


def test_dequantizing_the_codes_gives_the_quantized_latents(quantizer, quantized, params):
    latents = run(quantizer, params, quantized.codes, method="dequantize")
    # Quantizing adds the codeword as projected + (codeword - projected), rounded twice.
    np.testing.assert_allclose(latents, quantized.quantized, atol=TOLERANCE)


def test_dequantizing_fewer_levels_leaves_the_others_out(quantizer, quantized, params, latents):
    _, expected, _, _ = define(params, latents, 1)
    first = run(quantizer, params, quantized.codes[:, :1], method="dequantize")
    np.testing.assert_allclose(first, expected, atol=TOLERANCE)


def codebook(embedding):
    size, dim = embedding.shape
    return FlaxCodebook(size, dim, lax.Precision.HIGHEST), {"embedding": embedding}


def test_codes_depend_on_the_direction_of_latents_alone(params, latents):
    module, weights = codebook(params["quantizers_0"]["codebook"]["embedding"])
    projected = latents[..., :DIM]
    codes = run(module, weights, projected, method="nearest")
    for factor in (2.0**-20, 0.5, 64.0):  # powers of two scale without rounding
        scaled = run(module, weights, factor * projected, method="nearest")
        np.testing.assert_array_equal(codes, scaled)


def test_first_of_equally_near_codewords_is_taken():
    embedding = np.float32([[0, 1], [2, 0], [1, 0], [4, 0], [0, -1]])
    module, weights = codebook(embedding)
    codes = run(module, weights, np.float32([[[3, 0], [0, 2], [0, -7]]]), method="nearest")
    np.testing.assert_array_equal(codes, [[1, 0, 4]])


def test_silent_latents_have_the_code_zero_and_not_nan():
    module, weights = codebook(np.eye(4, dtype=np.float32))
    codes = run(module, weights, np.zeros((1, 2, 4), np.float32), method="nearest")
    np.testing.assert_array_equal(codes, [[0, 0]])


@pytest.mark.parametrize("code", [-1, -3, SIZE, SIZE + 1, 2**31 - 1, -(2**31)])
def test_code_outside_the_codebook_gives_nan_and_never_a_codeword(params, code):
    module, weights = codebook(params["quantizers_0"]["codebook"]["embedding"])
    codewords = run(module, weights, jnp.array([[0, code]]))
    assert np.isfinite(codewords[:, 0]).all()
    assert np.isnan(codewords[:, 1]).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_codes_of_any_integer_type_select_the_same_codewords(params, dtype):
    embedding = params["quantizers_0"]["codebook"]["embedding"]
    module, weights = codebook(embedding)
    codes = np.arange(SIZE).astype(dtype)
    np.testing.assert_array_equal(run(module, weights, codes), embedding)
