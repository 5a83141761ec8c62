"""A picture of what a codec does to a clip."""

import os
from typing import Any

import numpy as np

from codax.errors import CodaxError

_FLOOR_DB = -100.0
_SHORTEST = 6  # samples: windows of half as many are not all zeros


def draw_spectrograms(
    path: str | os.PathLike, original: np.ndarray, decoded: np.ndarray, sampling_rate: int
) -> None:
    """Draw two clips, float32 [C, T], one above the other, as a PNG file; channels are averaged.

    Raises `CodaxError` where matplotlib is missing.
    """
    figure = require_matplotlib()(figsize=(9, 5), dpi=100, layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    noise = np.random.default_rng(0)  # far below what is shown: silence has no logarithm
    clips = {"original": original, "decoded": decoded}
    for panel, (name, clip) in zip(panels, clips.items(), strict=True):
        samples = np.pad(clip.mean(axis=0), (0, max(_SHORTEST - clip.shape[1], 0)))
        samples = samples + 10 ** (_FLOOR_DB / 20) * noise.standard_normal(len(samples))
        size = min(1024, len(samples) // 2)
        _, _, _, image = panel.specgram(
            samples, NFFT=size, noverlap=size // 2, Fs=sampling_rate, vmin=_FLOOR_DB, vmax=-30
        )
        panel.set(title=name, ylabel="Hz")
    panels[1].set_xlabel("seconds")
    figure.colorbar(image, ax=panels, label="dB")
    figure.savefig(path)


def require_matplotlib() -> Any:
    """matplotlib's class `Figure`; `CodaxError` where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodaxError("the card's picture needs matplotlib: pip install matplotlib") from error
    return Figure
