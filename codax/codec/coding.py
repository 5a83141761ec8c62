"""What every codec family brings to `AudioCodec`."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from codax.codec.batches import Network, Work
from codax.configuration.config_fields import DecodeChunks
from codax.formats import EncodedAudio

CHUNK_S = 10.0
"""Seconds of audio that go through a network at once, where its configuration names no length."""


class Coder(Protocol):
    """What `AudioCodec` must know of a family of models.

    training_loudness_db: LUFS that the model was trained on; None for audio as it is
    num_codebooks, codebook_size: what its codes may be
    channels_per_stream: how many channels one stream of codes holds
    """

    @property
    def training_loudness_db(self) -> float | None: ...
    @property
    def num_codebooks(self) -> int: ...
    @property
    def codebook_size(self) -> int: ...
    @property
    def channels_per_stream(self) -> int: ...

    def levels(self, n_quantizers: int | None, bandwidth: float | None) -> int:
        """How many codebooks to use. Raises `ValueError` for what the model does not have."""
        ...

    def decoded_length(self, clip: EncodedAudio) -> int:
        """How many samples `decode` gives for all of a clip.

        Raises `FormatError` for codes that the model cannot have made.
        """
        ...

    def decode(
        self, clip: EncodedAudio, span: tuple[int, int] | None = None
    ) -> Iterator[np.ndarray]:
        """-> pieces float32 [C, T] of the audio, at the model's rate.

        span: the samples, from the first to before the second, that are wanted
        """
        ...


class Parts(Protocol):
    """How a family of models codes many clips at once.

    longest_to_encode, longest_to_decode: frames of the longest parts
    """

    longest_to_encode: int
    longest_to_decode: int

    def encoder(self, levels: int) -> Network:
        """Samples [B, C, N] to codes [B, K, F] and scales [B, 1] or None."""
        ...

    def to_encode(self, samples: np.ndarray) -> Work | None:
        """A clip float32 [C, T], which becomes `CodedFrames`; None if it must go alone."""
        ...

    def decoder(self) -> Network:
        """Codes [B, K, F] to samples [B, ..., N]."""
        ...

    def to_decode(self, clip: EncodedAudio) -> Work | None:
        """A clip, which becomes float32 [C, T], at the model's rate; None if it must go alone."""
        ...


def encode_chunk_frames(config: Any) -> int:
    """How many frames to encode at a time: what the configuration says, or `CHUNK_S`."""
    return config.encode_chunk_frames() or config.encode_chunk_frames(CHUNK_S)


def decode_chunks(config: Any, is_span: bool) -> DecodeChunks:
    """How to decode: as the configuration says; exactly for a span, or where it says nothing."""
    chunks = config.decode_chunks()
    if chunks is None or is_span:
        frames = config.decode_chunks(CHUNK_S).frames if chunks is None else chunks.frames
        return DecodeChunks(frames, overlap=0.0, mode="exact")
    return chunks
