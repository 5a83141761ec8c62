"""What encoding gives, as numpy arrays. Needs no torch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Encoding:
    """codes [B, K, F], projected_latents [B, K*d, F], quantized [B, D, F], loss [B] or []."""

    codes: np.ndarray
    projected_latents: np.ndarray
    quantized: np.ndarray
    loss: np.ndarray
