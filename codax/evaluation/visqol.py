"""ViSQOL, a perceptual score, through the optional package `visqol-python`."""

import math

import numpy as np

from codax.errors import AudioError, CodaxError
from codax.feature_extraction import mix, resample

SAMPLING_RATES = {"audio": 48000, "speech": 16000}
"""Hz, that each mode takes."""


class Visqol:
    """Scores reconstructions by ViSQOL v3 (Chinen et al. 2020), in one of its two modes.

    mode: "audio", at 48 kHz, up to about 4.75; "speech", at 16 kHz, up to 5, with the polynomial of
        ViSQOL's `--use_lattice_model=false`, which every installation has

    Raises `ValueError` for another mode, `CodaxError` where visqol-python is not installed.
    """

    def __init__(self, mode: str = "audio"):
        if mode not in SAMPLING_RATES:
            raise ValueError(f"mode must be one of {', '.join(SAMPLING_RATES)}; got {mode!r}")
        try:
            from visqol import VisqolApi
        except ImportError as error:
            raise CodaxError(
                f'ViSQOL needs visqol-python: pip install "codax[eval]" ({error})'
            ) from error
        self.mode = mode
        self._api = VisqolApi()
        self._api.create(mode=mode, use_lattice_model=False)

    def score(self, estimate: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
        """Give the mean opinion score (MOS-LQO) that listeners are expected to give.

        estimate, reference: float [C, T] at `sampling_rate` Hz, which are converted to the mode's
            rate; channels are averaged, as ViSQOL does
        -> from 1 (bad) to 5 (excellent)

        Raises `AudioError` for clips that have no score: under about a second, or silent.
        """
        rate = SAMPLING_RATES[self.mode]
        original, decoded = (
            resample(mix(samples, 1)[0], sampling_rate, rate) for samples in (reference, estimate)
        )
        try:
            score = self._api.measure_from_arrays(original, decoded, rate).moslqo
        except (ValueError, IndexError) as error:  # how it tells of too few or too quiet frames
            seconds = reference.shape[-1] / sampling_rate
            raise AudioError(f"ViSQOL has no score for {seconds:.3g} s of it: {error}") from error
        if not math.isfinite(score):
            raise AudioError(f"ViSQOL gives {score}: the audio is silent")
        return float(score)
