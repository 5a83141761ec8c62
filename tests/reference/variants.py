"""The shapes of the published DAC models, and two small ones for quick tests. Needs no torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """One published model's shape (`latent_width` None: encoder_hidden_size * 2 ** len(ratios))."""

    name: str
    sampling_rate: int
    downsampling_ratios: tuple[int, ...]
    n_codebooks: int
    latent_width: int | None = None
    encoder_hidden_size: int = 64
    decoder_hidden_size: int = 1536
    codebook_size: int = 1024
    codebook_dim: int = 8

    @property
    def hop_length(self):
        return math.prod(self.downsampling_ratios)

    @property
    def hidden_size(self):
        return self.latent_width or self.encoder_hidden_size * 2 ** len(self.downsampling_ratios)

    def num_frames(self, num_samples):
        return math.ceil(num_samples / self.hop_length)


# The releases of descript-audio-codec: dac/utils/__init__.py names the files.
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("44khz", 44100, (2, 4, 8, 8), 9),
        Variant("24khz", 24000, (2, 4, 5, 8), 32),
        Variant("16khz", 16000, (2, 4, 5, 8), 12),
        Variant("44khz_16kbps", 44100, (2, 4, 8, 8), 18, latent_width=128),
    )
}

# An odd ratio (the transposed convolution then gives one sample less) and a rate of its own.
TINY = Variant(
    "tiny",
    sampling_rate=8000,
    downsampling_ratios=(2, 4, 5),
    n_codebooks=3,
    encoder_hidden_size=8,
    decoder_hidden_size=32,
    codebook_size=16,
    codebook_dim=4,
)
# As TINY with a latent width that transformers' DacConfig cannot express, and even ratios only.
TINY_NARROW = Variant(
    "tiny_narrow",
    sampling_rate=8000,
    downsampling_ratios=(4, 2, 8),
    n_codebooks=5,
    latent_width=24,
    encoder_hidden_size=8,
    decoder_hidden_size=48,
    codebook_size=32,
    codebook_dim=8,
)
