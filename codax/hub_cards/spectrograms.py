"""A picture of what a codec does to a clip."""

import os

import numpy as np

from codax.errors import CodaxError

_FLOOR_DB = -100.0


def draw_spectrograms(
    path: str | os.PathLike, original: np.ndarray, decoded: np.ndarray, sampling_rate: int
) -> None:
    """Draw two clips, float32 [C, T], one above the other, as a PNG file; channels are averaged.

    Raises `CodaxError` where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodaxError("a picture needs matplotlib: pip install matplotlib") from error
    figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    clips = {"original": original, "decoded": decoded}
    for panel, (name, clip) in zip(panels, clips.items(), strict=True):
        samples = clip.mean(axis=0) + 10 ** (_FLOOR_DB / 20) * np.finfo(np.float32).eps
        size = min(1024, len(samples))
        _, _, _, image = panel.specgram(
            samples, NFFT=size, noverlap=size // 2, Fs=sampling_rate, vmin=_FLOOR_DB, vmax=-30
        )
        panel.set(title=name, ylabel="Hz")
    panels[1].set_xlabel("seconds")
    figure.colorbar(image, ax=panels, label="dB")
    figure.savefig(path)
