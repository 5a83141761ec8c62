"""What a DAC may begin with, so that training need not find it first: weights that fit a batch.

As the reference begins, each convolution makes what goes through it smaller, a thousandfold in all;
the quantizer's projections lead to 8 of the latents' many dimensions and back to others, so that at
first a level adds more than it takes away. Neither hinders long training, but the first thousands
of steps of a short one are lost.

Here kernels are scaled so that what comes out of each has a deviation of 1 (Salimans & Kingma 2016,
section 3), and the audio that of the batch. Each level of the quantizer looks at what those before
it left over, along its principal axes and in units of its deviation there, for which codewords that
are drawn from a normal distribution have the right size.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from codax.modeling.layers import FlaxConv, FlaxConvTranspose

PRECISION = lax.Precision.HIGHEST
SMALLEST = 1e-6
"""Deviation, so that all is finite where a batch is silent."""

Params = Mapping[str, Any]


def fit_to_batch(module: nn.Module, params: Params, samples: jax.Array) -> dict[str, Any]:
    """-> parameters that fit a batch. Codebooks stay as they are.

    module: `FlaxDacModule`; params: its fresh ones, with plain kernels
    samples: float32 [B, 1, T], T a multiple of the hop
    """
    signal = jnp.swapaxes(samples, 1, 2)
    latents, encoder = _fit_convolutions(module, params, "encoder", signal, 1.0)
    quantizer, quantized = fit_projections(params["quantizer"], latents)
    _, decoder = _fit_convolutions(module, params, "decoder", quantized, jnp.std(samples))
    return {**params, "encoder": encoder, "quantizer": quantizer, "decoder": decoder}


def fit_projections(params: Params, latents: jax.Array) -> tuple[dict[str, Any], jax.Array]:
    """Projections of all levels that suit latents; and what all of them together make of these.

    params: of `FlaxResidualVectorQuantizer`, with plain kernels
    latents: float32 [B, F, D]. Of fewer frames than dimensions there are only so many axes.
    """
    vectors = residual = latents.reshape(-1, latents.shape[-1])
    fitted = {}
    for level in range(len(params)):
        name = f"quantizers_{level}"
        fitted[name], quantized = _fit_level(params[name], residual)
        residual = residual - quantized
    return fitted, (vectors - residual).reshape(latents.shape)


def _fit_convolutions(
    module: nn.Module, params: Params, name: str, inputs: jax.Array, level: jax.Array | float
) -> tuple[jax.Array, dict[str, Any]]:
    """What one of the networks gives, and its parameters.

    level: the deviation of what its last convolution gives; 1 of the others
    """
    leaves: dict[tuple[str, ...], Any] = dict(flatten_dict(params[name]))
    last = "conv2"  # of the encoder and of the decoder

    def scaled(call, arguments, options, context):
        outputs = call(*arguments, **options)
        if not isinstance(context.module, FlaxConv | FlaxConvTranspose):
            return outputs
        path = context.module.path[1:]
        scale = (level if path == (last,) else 1.0) / jnp.maximum(jnp.std(outputs), SMALLEST)
        leaves[*path, "kernel"] = leaves[*path, "kernel"] * scale
        return outputs * scale  # there is no bias yet

    with nn.intercept_methods(scaled):
        outputs: Any = module.apply(
            {"params": params}, inputs, method=lambda self, inputs: getattr(self, name)(inputs)
        )
    return outputs, unflatten_dict(leaves)


def _fit_level(params: Params, vectors: jax.Array) -> tuple[dict[str, Any], jax.Array]:
    """A level that quantizes float32 [M, D], and what it makes of them."""
    codewords = params["codebook"]["embedding"]
    mean = jnp.mean(vectors, axis=0)
    centred = vectors - mean
    covariance = jnp.matmul(centred.T, centred, precision=PRECISION) / len(vectors)
    variances, axes = jnp.linalg.eigh(covariance)  # ascending
    dim = codewords.shape[1]
    deviations = jnp.maximum(jnp.sqrt(jnp.maximum(variances[-dim:], 0)), SMALLEST)
    down, up = axes[:, -dim:] / deviations, (axes[:, -dim:] * deviations).T
    projected = jnp.matmul(centred, down, precision=PRECISION)
    directions = codewords / jnp.linalg.norm(codewords, axis=1, keepdims=True)
    nearest = jnp.argmax(jnp.matmul(projected, directions.T, precision=PRECISION), axis=1)
    quantized = jnp.matmul(codewords[nearest], up, precision=PRECISION) + mean
    in_bias = -jnp.matmul(mean, down, precision=PRECISION)
    return {
        "codebook": params["codebook"],
        "in_proj": {"kernel": down[None], "bias": in_bias},
        "out_proj": {"kernel": up[None], "bias": mean},
    }, quantized
