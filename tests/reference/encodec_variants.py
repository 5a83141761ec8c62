"""The shapes of the released EnCodec models, and small ones for quick tests. Needs no torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class EncodecVariant:
    """One model's shape. Bandwidths in kbps; `upsampling_ratios` in the decoder's order."""

    name: str
    sampling_rate: int
    target_bandwidths: tuple[float, ...]
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    audio_channels: int = 1
    causal: bool = True
    norm_type: str = "weight_norm"
    normalize: bool = False
    chunk_length_s: float | None = None
    overlap: float | None = None
    use_conv_shortcut: bool = True
    pad_mode: str = "reflect"
    trim_right_ratio: float = 1.0
    num_filters: int = 32
    hidden_size: int = 128
    codebook_size: int = 1024
    num_residual_layers: int = 1
    num_lstm_layers: int = 2

    @property
    def hop_length(self):
        return math.prod(self.upsampling_ratios)

    @property
    def frame_rate(self):
        """Frames per second, rounded up as both references round it."""
        return math.ceil(self.sampling_rate / self.hop_length)

    @property
    def bits_per_codebook(self):
        return int(math.log2(self.codebook_size))

    @property
    def n_codebooks(self):
        return int(1000 * self.target_bandwidths[-1] // (self.frame_rate * self.bits_per_codebook))

    @property
    def is_small(self):
        return self.num_filters < 32

    @property
    def chunk_length(self):
        """Samples of a segment, None where a clip is coded as a whole."""
        return self.chunk_length_s and int(self.chunk_length_s * self.sampling_rate)

    @property
    def chunk_stride(self):
        return self.chunk_length and max(1, int((1.0 - self.overlap) * self.chunk_length))

    @property
    def segmentations(self):
        """The values of `EncodecConfig.segmentation` that code this model's audio differently."""
        return ("original",) if self.chunk_length is None else ("original", "transformers")

    def num_frames(self, num_samples):
        """Frames of one segment."""
        return math.ceil(num_samples / self.hop_length)

    def loses_overlap(self, num_samples):
        """Whether the original's decoder fails on a clip of this length.

        The last segment but one, decoded, is a whole number of hops. Where that reaches beyond the
        end of the last segment, `_linear_overlap_add` adds arrays of different lengths:

            last but one   |------------------------------|
            last                                     |--|     all that the output has room for
        """
        if self.chunk_length is None or num_samples <= self.chunk_stride:
            return False
        last = (num_samples - 1) % self.chunk_stride + 1
        before = min(self.chunk_length, self.chunk_stride + last)
        decoded_before, decoded_last = (
            self.num_frames(length) * self.hop_length for length in (before, last)
        )
        return decoded_before > self.chunk_stride + decoded_last


# facebookresearch/encodec, encodec/model.py: `encodec_model_24khz`, `encodec_model_48khz`; and the
# config.json of the Hub's facebook/encodec_32khz.
ENCODEC_VARIANTS = {
    variant.name: variant
    for variant in (
        EncodecVariant("encodec_24khz", 24000, (1.5, 3.0, 6.0, 12.0, 24.0)),
        EncodecVariant(
            "encodec_48khz",
            48000,
            (3.0, 6.0, 12.0, 24.0),
            audio_channels=2,
            causal=False,
            norm_type="time_group_norm",
            normalize=True,
            chunk_length_s=1.0,
            overlap=0.01,
        ),
        EncodecVariant(
            "encodec_32khz",
            32000,
            (2.2,),
            upsampling_ratios=(8, 5, 4, 4),
            causal=False,
            use_conv_shortcut=False,
            num_filters=64,
            codebook_size=2048,
        ),
    )
}

_SMALL = {"sampling_rate": 8000, "num_filters": 4, "hidden_size": 16, "codebook_size": 32}

# As 24 kHz, with an odd ratio. 400 frames a second, 2 kbps a codebook.
TINY_CAUSAL = EncodecVariant(
    "tiny_causal", target_bandwidths=(2.0, 4.0, 8.0), upsampling_ratios=(4, 5), **_SMALL
)
# As 48 kHz, with odd ratios, where left and right padding differ. 533.3 frames a second, rounded
# up in the bandwidth of a codebook (2.67 kbps). Segments of 360 samples, 24 frames, every 338,
# which is no whole number of frames.
TINY_SEGMENTED = EncodecVariant(
    "tiny_segmented",
    target_bandwidths=(2.7, 10.7),
    upsampling_ratios=(5, 3),
    audio_channels=2,
    causal=False,
    norm_type="time_group_norm",
    normalize=True,
    chunk_length_s=0.045,
    overlap=0.06,
    **_SMALL,
)
# As 32 kHz, with a second, dilated residual block. 400 frames a second, 2 kbps a codebook.
TINY_IDENTITY = EncodecVariant(
    "tiny_identity",
    target_bandwidths=(2.0, 6.0),
    upsampling_ratios=(4, 5),
    causal=False,
    use_conv_shortcut=False,
    num_residual_layers=2,
    **_SMALL,
)
# What audiocraft may train: padding with zeros, output trimmed on both sides, one LSTM layer.
TINY_ZEROS = EncodecVariant(
    "tiny_zeros",
    target_bandwidths=(2.0, 4.0),
    upsampling_ratios=(4, 3),
    pad_mode="constant",
    trim_right_ratio=0.4,
    num_lstm_layers=1,
    **{**_SMALL, "sampling_rate": 4800},
)
TINY_VARIANTS = {
    variant.name: variant for variant in (TINY_CAUSAL, TINY_SEGMENTED, TINY_IDENTITY, TINY_ZEROS)
}
