"""Pictures, by matplotlib, which is there where an extra of codax was installed."""

import os
from typing import Any

import numpy as np

from codax.errors import CodaxError

_FLOOR_DB = -100.0
_SHORTEST = 6  # samples: windows of half as many are not all zeros


def require_matplotlib(extra: str) -> Any:
    """matplotlib's class `Figure`.

    extra: of codax, that brings it

    Raises `CodaxError`, telling the extra, where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CodaxError(
            f'pictures need matplotlib: pip install "codax[{extra}]" ({error})'
        ) from error
    return Figure


def draw_comparison(
    path: str | os.PathLike,
    original: np.ndarray,
    decoded: np.ndarray,
    sampling_rate: int,
    extra: str,
) -> None:
    """Draw waveforms and spectrograms of two clips, one above the other, as a PNG file.

    original, decoded: float32 [C, T], whose channels are averaged
    extra: as `require_matplotlib` takes it, and raises for
    """
    figure = require_matplotlib(extra)(figsize=(12, 5), dpi=100, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey="col")
    clips = {"original": original, "decoded": decoded}
    for (waveform, spectrogram), (name, clip) in zip(panels, clips.items(), strict=True):
        samples = np.pad(clip.mean(axis=0), (0, max(_SHORTEST - clip.shape[1], 0)))
        times = np.arange(len(samples)) / sampling_rate
        waveform.plot(times, samples, linewidth=0.3)
        waveform.set(title=name)
        image = _draw_spectrogram(spectrogram, samples, sampling_rate)
        spectrogram.set(title=name, ylabel="Hz")
    for panel in panels[1]:
        panel.set_xlabel("seconds")
    figure.colorbar(image, ax=panels[:, 1], label="dB")
    figure.savefig(path, format="png")


def _draw_spectrogram(panel: Any, samples: np.ndarray, sampling_rate: int) -> Any:
    noise = np.random.default_rng(0)  # far below what is shown: silence has no logarithm
    samples = samples + 10 ** (_FLOOR_DB / 20) * noise.standard_normal(len(samples))
    size = min(1024, len(samples) // 2)
    _, _, _, image = panel.specgram(
        samples, NFFT=size, noverlap=size // 2, Fs=sampling_rate, vmin=_FLOOR_DB, vmax=-30
    )
    return image
