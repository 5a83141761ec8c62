"""Both reference implementations behind one small interface, numpy in and numpy out.

transformers' DacModel and descript's DAC name their encoder, quantizers and decoder alike, so
that the distances of a frame to the codewords are measured by the same code in both.
"""

import functools

import numpy as np
import torch

from . import checkpoints
from .encoding import Encoding

COMMITMENT_WEIGHT = 0.25  # both recipes: loss = 0.25 * commitment + 1.0 * codebook


class TransformersOracle:
    """transformers' torch DacModel, loaded from a folder."""

    name = "transformers"
    # DacVectorQuantize.decode_latents maximises -(|e|^2 - 2 e.c) + |c|^2: the codeword's norm has
    # the other sign than in descript's code. All norms are 1: it matters to rounding only.
    codebook_norm_sign = -1.0

    def __init__(self, folder):
        self.folder = folder
        self._load = functools.partial(checkpoints.load_transformers, folder)
        self.model = self._load()

    @torch.no_grad()
    def encode(self, audio, n_quantizers=None):
        """float32 [B, 1, T] -> Encoding, without padding."""
        output = self.model.encode(_tensor(audio), n_quantizers)
        return Encoding(
            codes=output.audio_codes.numpy(),
            projected_latents=output.projected_latents.numpy(),
            quantized=output.quantized_representation.numpy(),
            loss=output.loss.numpy(),
        )

    @torch.no_grad()
    def decode_codes(self, codes):
        """int [B, K, F] -> float32 [B, T']."""
        return self.model.decode(audio_codes=_tensor(codes).long()).audio_values.numpy()

    @torch.no_grad()
    def decode_quantized(self, quantized):
        """float32 [B, D, F] -> float32 [B, T']."""
        return self.model.decode(_tensor(quantized)).audio_values.numpy()

    @torch.no_grad()
    def forward(self, audio, n_quantizers=None):
        """Encode and decode, cropped to the input's length: DacOutput of numpy arrays."""
        output = self.model(_tensor(audio), n_quantizers)
        return type(output)(**{name: value.numpy() for name, value in output.items()})

    def distances(self, audio, codes):
        """Distances of every frame to the codewords, along `codes`."""
        return FrameDistances(self, audio, codes)

    @functools.cached_property
    def model64(self):
        """The same model in float64."""
        return self._load().double()


class DescriptOracle:
    """descript's DAC, loaded from a `.pth` file."""

    name = "descript"
    codebook_norm_sign = 1.0

    def __init__(self, path):
        self._load = functools.partial(checkpoints.load_descript, path)
        self.model = self._load()

    @torch.no_grad()
    def encode(self, audio, n_quantizers=None):
        """float32 [B, 1, T] -> Encoding, without padding."""
        z, codes, latents, commitment, codebook = self.model.encode(_tensor(audio), n_quantizers)
        loss = COMMITMENT_WEIGHT * commitment + codebook
        return Encoding(codes.numpy(), latents.numpy(), z.numpy(), loss.numpy())

    @torch.no_grad()
    def decode_codes(self, codes):
        """int [B, K, F] -> float32 [B, T']."""
        quantized = self.model.quantizer.from_codes(_tensor(codes).long())[0]
        return self.model.decode(quantized)[:, 0].numpy()

    @torch.no_grad()
    def decode_quantized(self, quantized):
        """float32 [B, D, F] -> float32 [B, T']."""
        return self.model.decode(_tensor(quantized))[:, 0].numpy()

    def distances(self, audio, codes):
        """Distances of every frame to the codewords, along `codes`."""
        return FrameDistances(self, audio, codes)

    @functools.cached_property
    def model64(self):
        """The same model in float64; weight norm is folded in float64 too."""
        return self._load().double()


class FrameDistances:
    """Squared distances between a frame's normalised projection and the normalised codewords.

    Followed along the given codes, so that a level's distances are those that the reference had
    before it, whatever another implementation chose. Computed in float64, and in float32 to see
    how far rounding moved them. Nothing runs before the first call of `at`.
    """

    def __init__(self, oracle, audio, codes):
        self._oracle, self._audio, self._codes = oracle, audio, codes

    def at(self, batch, level, frame):
        """(float64, float32) distances to each codeword of a level, both [codebook_size]."""
        return tuple(
            self._distances(model, projections[level][batch, :, frame], level)
            for model, projections in (self._exact, self._rounded)
        )

    @functools.cached_property
    def _exact(self):
        return self._oracle.model64, self._project(self._oracle.model64)

    @functools.cached_property
    def _rounded(self):
        return self._oracle.model, self._project(self._oracle.model)

    @torch.no_grad()
    def _project(self, model):
        """Every level's projected latents, K tensors [B, d, F]."""
        dtype = next(model.parameters()).dtype
        residual = model.encoder(_tensor(self._audio).to(dtype))
        codes = _tensor(self._codes).long()
        projections = []
        for level, quantizer in enumerate(model.quantizer.quantizers):
            if level == codes.shape[1]:
                break
            projection = quantizer.in_proj(residual)
            codeword = quantizer.codebook(codes[:, level]).transpose(1, 2)
            residual = residual - quantizer.out_proj(projection + (codeword - projection))
            projections.append(projection)
        return projections

    @torch.no_grad()
    def _distances(self, model, projection, level):
        codebook = model.quantizer.quantizers[level].codebook.weight
        e = torch.nn.functional.normalize(projection[None])
        c = torch.nn.functional.normalize(codebook)
        codeword_norms = self._oracle.codebook_norm_sign * c.pow(2).sum(1)
        return (e.pow(2).sum(1) - 2 * (e @ c.T)[0] + codeword_norms).numpy()


def _tensor(array):
    return torch.from_numpy(np.array(array))
