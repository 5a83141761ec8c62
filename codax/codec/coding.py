"""What every codec family brings to `AudioCodec`."""

from typing import NamedTuple, Protocol

import numpy as np

from codax.formats import EncodedAudio


class Coded(NamedTuple):
    """Codes int32 [N, K, F] of a clip, with the fields of `EncodedAudio` of the same names."""

    codes: np.ndarray
    segment_frames: tuple[int, ...] | None = None
    scales: np.ndarray | None = None


class Coder(Protocol):
    """Samples at the model's rate to codes and back, whatever their length.

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

    def encode(self, samples: np.ndarray, levels: int) -> Coded:
        """Samples float32 [C, T]; `AudioError` for channels that the model does not take."""
        ...

    def decode(self, clip: EncodedAudio) -> np.ndarray:
        """-> samples float32 [C, T]; T is what the model makes of the codes.

        Raises `FormatError` for codes that the model cannot have made.
        """
        ...


def fit_length(samples: np.ndarray, num_samples: int) -> np.ndarray:
    """[C, T] -> [C, num_samples], cropped or filled with zeros at the end."""
    samples = samples[:, :num_samples]
    return np.pad(samples, ((0, 0), (0, num_samples - samples.shape[1])))
