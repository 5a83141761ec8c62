"""The models as training runs them: audio to audio, through the quantizer, with its losses."""

from functools import reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from codax.modeling.modeling_flax_dac import FlaxDacModule
from codax.modeling.modeling_flax_encodec import FlaxEncodecModule, volume_of
from codax.training.ema_codebooks import quantize_and_learn


class Reconstruction(NamedTuple):
    """What a model makes of audio.

    audio: float32 [B, C, T]
    commitment, codebook: float32 scalars, losses of the quantizer
    learnt: parameters of the quantizer, where they are learnt by what was quantized; or None
    """

    audio: jax.Array
    commitment: jax.Array
    codebook: jax.Array
    learnt: dict[str, Any] | None = None


class FlaxDacTrainingModule(FlaxDacModule):
    """DAC with quantizer dropout (Zeghidour et al. 2021, section III-C).

    Same parameters as `FlaxDacModule`.
    """

    def reconstruct(self, samples, levels, key=None) -> Reconstruction:
        """Samples float [B, 1, T], levels int [B], how many codebooks each is coded by.

        key: not needed; gradients teach these codebooks

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
            residual = residual - level.quantized
            share = jnp.mean(kept)
            sums.append(
                (
                    level.quantized * kept[:, None, None],
                    level.commitment_loss * share,
                    level.codebook_loss * share,
                )
            )
        quantized, commitment, codebook = (reduce(jnp.add, one) for one in zip(*sums, strict=True))
        audio = self.decoder(quantized)[:, :length].astype(jnp.float32)
        audio = jnp.pad(audio, ((0, 0), (0, length - audio.shape[1]), (0, 0)))
        return Reconstruction(jnp.swapaxes(audio, 1, 2), commitment, codebook)


class FlaxEncodecTrainingModule(FlaxEncodecModule):
    """EnCodec with quantizer dropout, whose codebooks follow what they quantize.

    Same parameters as `FlaxEncodecModule`.
    """

    def reconstruct(self, samples, levels, key=None) -> Reconstruction:
        """Samples float [B, C, T], levels int [B], how many codebooks each is coded by: all alike.

        key: of jax.random, for codebooks that learn (`quantize_and_learn`, which tells the losses
            too); None where they only quantize, with all codebooks
        """
        length = samples.shape[-1]
        samples = jnp.swapaxes(samples, 1, 2).astype(jnp.float32)
        scales: Any = 1.0
        if self.architecture.normalize:
            scales = volume_of(samples, None)[..., None]
        latents = self.encoder(samples / scales).astype(jnp.float32)
        commitment, learnt = jnp.float32(0), None
        if key is None:
            codes = self.quantizer(latents, self.architecture.num_quantizers)
            quantized = self.quantizer.dequantize(codes)
        else:
            params = self.variables["params"]["quantizer"]
            found = quantize_and_learn(params, latents, key, num_quantizers=levels[0])
            quantized, commitment, learnt = found.quantized, found.commitment_loss, found.params
        audio = self.decoder(quantized).astype(jnp.float32)[:, :length] * scales
        return Reconstruction(jnp.swapaxes(audio, 1, 2), commitment, jnp.float32(0), learnt)


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
