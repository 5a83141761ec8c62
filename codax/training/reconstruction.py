"""The models as training runs them: audio to audio, through the quantizer, with its losses."""

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from codax.modeling.modeling_flax_dac import FlaxDacModule
from codax.modeling.modeling_flax_encodec import FlaxEncodecModule, volume_of


class Reconstruction(NamedTuple):
    """What a model makes of audio.

    audio: float32 [B, C, T]
    commitment, codebook: float32 scalars, losses of the quantizer
    latents: float32 [B, F, D], what was quantized, without a gradient
    """

    audio: jax.Array
    commitment: jax.Array
    codebook: jax.Array
    latents: jax.Array


class FlaxDacTrainingModule(FlaxDacModule):
    """DAC with quantizer dropout (Zeghidour et al. 2021, section III-C).

    Same parameters as `FlaxDacModule`.
    gradient: through the quantizer, "straight_through" or "tangential"
    """

    gradient: str = "straight_through"

    def reconstruct(self, samples, levels) -> Reconstruction:
        """Samples float [B, 1, T], levels int [B], how many codebooks each is coded by.

        Silence fills the last frame. Losses are sums over the codebooks, as dac/nn/quantize.py has
        them: an excerpt counts in those that it is coded by alone, in the mean over all excerpts.
        """
        length = samples.shape[-1]
        missing = -length % self.architecture.hop_length
        padded = jnp.pad(jnp.swapaxes(samples, 1, 2), ((0, 0), (0, missing), (0, 0)))
        latents = self.encoder(padded).astype(jnp.float32)
        residual, sums = latents, []
        for index, quantizer in enumerate(self.quantizer.quantizers):
            kept = index < levels
            level = quantizer(residual, jnp.where(kept, latents.shape[1], 0))
            quantized = level.quantized
            if self.gradient == "tangential":
                codewords = quantizer.codebook(level.codes)
                quantized = quantizer.out_proj(tangential(level.projected_latents, codewords))
            residual = residual - quantized
            share = jnp.mean(kept)
            sums.append(
                (
                    quantized * kept[:, None, None],
                    level.commitment_loss * share,
                    level.codebook_loss * share,
                )
            )
        quantized, commitment, codebook = (reduce(jnp.add, one) for one in zip(*sums, strict=True))
        audio = self.decoder(quantized)[:, :length].astype(jnp.float32)
        audio = jnp.pad(audio, ((0, 0), (0, length - audio.shape[1]), (0, 0)))
        audio = jnp.swapaxes(audio, 1, 2)
        return Reconstruction(audio, commitment, codebook, lax.stop_gradient(latents))


def tangential(projected: jax.Array, codewords: jax.Array) -> jax.Array:
    """Codewords, and what their gradient is to do: both float32 [B, F, d].

    DAC chooses codewords by the angle alone, so the length of what it looks up changes nothing.
    Straight through, the gradient of a decoder that wants more makes it longer all the same, and
    longer; only the codebook's loss follows, and where learning is fast it does not keep up. Here
    what goes back has no part along the looked-up vector, as if that had the codeword's length:
    the codeword follows the gradient itself.
    """
    lengths = lax.stop_gradient(jnp.linalg.norm(codewords, axis=-1, keepdims=True))
    squares = jnp.sum(jnp.square(projected), axis=-1, keepdims=True)
    turned = lengths * projected * lax.rsqrt(jnp.maximum(squares, SMALLEST_SQUARE))
    return codewords + (turned - lax.stop_gradient(turned))


SMALLEST_SQUARE = 1e-12
"""Of the length of what is looked up, so that silence has a gradient that is finite."""


class FlaxEncodecTrainingModule(FlaxEncodecModule):
    """EnCodec with quantizer dropout. Same parameters as `FlaxEncodecModule`.

    Its codebooks are learnt by moving averages (`ema_codebooks`), not by a loss.
    """

    def reconstruct(self, samples, levels) -> Reconstruction:
        """Samples float [B, C, T], levels int [B], how many codebooks each is coded by.

        The commitment loss of an excerpt is the mean over its codebooks. Gradients go straight
        through the sum of all of them, and through each commitment loss, as
        audiocraft/quantization/core_vq.py has it (encodec's own end after the first codebook:
        facebookresearch/encodec, issue 25).
        """
        length = samples.shape[-1]
        samples = jnp.swapaxes(samples, 1, 2).astype(jnp.float32)
        scales: Any = 1.0
        if self.architecture.normalize:
            scales = volume_of(samples, None)[..., None]
        latents = self.encoder(samples / scales).astype(jnp.float32)
        quantized, commitment = self._quantized(latents, levels)
        audio = self.decoder(quantized).astype(jnp.float32)[:, :length] * scales
        audio = jnp.swapaxes(audio, 1, 2)
        return Reconstruction(audio, commitment, jnp.float32(0), lax.stop_gradient(latents))

    def _quantized(self, latents, levels) -> tuple[jax.Array, jax.Array]:
        """What is decoded, float32 [B, F, D], and the commitment loss."""
        residual, quantized = latents, jnp.zeros_like(latents)
        commitment = jnp.float32(0)
        for index, codebook in enumerate(self.quantizer.codebooks):
            kept = index < levels
            codewords = lax.stop_gradient(codebook(codebook.nearest(residual)))
            squares = jnp.mean(jnp.square(residual - codewords), axis=(1, 2))
            commitment += jnp.mean(jnp.where(kept, squares / levels, 0))
            quantized += codewords * kept[:, None, None]
            residual = residual - codewords
        straight_through = latents + lax.stop_gradient(quantized - latents)
        return straight_through, commitment


TRAINING_MODULES = {"dac": FlaxDacTrainingModule, "encodec": FlaxEncodecTrainingModule}
"""By the `model_type` of the configuration."""


def draw_levels(key: jax.Array, batch: int, most: int, dropout: float, by: str) -> jax.Array:
    """How many codebooks each excerpt of a batch is coded by: int [batch], from 1 to `most`.

    dropout: share of the excerpts for which that is drawn; the others have all. by: "item" draws
        for each (dac/nn/quantize.py: the first of the batch, in this share), "batch" one number for
        all of them (audiocraft/quantization/vq.py)
    """
    if by == "batch":
        chance, number = jax.random.split(key)
        level = jax.random.randint(number, (), 1, most + 1)
        level = jnp.where(jax.random.uniform(chance) < dropout, level, most)
        return jnp.full(batch, level)
    drawn = jax.random.randint(key, (batch,), 1, most + 1)
    return jnp.where(jnp.arange(batch) < int(batch * dropout), drawn, most)
