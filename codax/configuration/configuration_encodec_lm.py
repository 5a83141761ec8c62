"""The language model that entropy-codes EnCodec's `.ecdc` files, as data."""

from dataclasses import dataclass, fields

from .config_fields import require_positive_int


@dataclass(frozen=True)
class EncodecLmArchitecture:
    """A transformer that predicts all codes of a frame, each by itself, from the frames before.

    num_codebooks: that it has embeddings and output layers for; a stream may use fewer
    past_context: how many frames before a frame its own layer input is compared with
    codebook_size: entries of every codebook
    dim, num_layers, num_heads, feed_forward_dim: of the transformer

    Raises `ValueError` naming the field, its value and what is allowed.
    """

    num_codebooks: int
    past_context: int
    codebook_size: int = 1024
    dim: int = 200
    num_layers: int = 5
    num_heads: int = 8
    feed_forward_dim: int = 800

    def __post_init__(self):
        for field in fields(self):
            require_positive_int(field.name, getattr(self, field.name))
        if self.dim % self.num_heads or self.dim % 2 or self.dim < 4:
            raise ValueError(
                f"dim={self.dim} must be even, at least 4 and a multiple of num_heads, "
                f"{self.num_heads}"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


# By the codec's model. Source: facebookresearch/encodec, `EncodecModel.get_lm_model`: a context of
# int(3.5 * frame rate) frames, at 75 and 150 Hz.
ENCODEC_LMS = {
    "encodec_24khz": EncodecLmArchitecture(num_codebooks=32, past_context=262),
    "encodec_48khz": EncodecLmArchitecture(num_codebooks=16, past_context=525),
}
