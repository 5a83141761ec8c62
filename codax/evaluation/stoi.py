"""STOI, how much of speech is understood, through the optional package `pystoi`."""

import warnings

import numpy as np

from codax.errors import AudioError, CodaxError
from codax.feature_extraction import mix


class Stoi:
    """Measures the short-time objective intelligibility of speech (Taal et al. 2011).

    Raises `CodaxError` where pystoi is not installed.
    """

    def __init__(self):
        try:
            from pystoi import stoi
        except ImportError as error:
            raise CodaxError(f'STOI needs pystoi: pip install "codax[eval]" ({error})') from error
        self._stoi = stoi

    def score(self, estimate: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
        """Correlate the envelopes of both, in bands of a third of an octave up to 4.3 kHz.

        estimate, reference: float [C, T] at `sampling_rate` Hz; channels are averaged
        -> up to 1, which is understood best; frames that are silent in the reference do not count

        Raises `AudioError` for clips that have no score: under about 0.4 s, pauses not counted.
        """
        original, decoded = (mix(samples, 1)[0] for samples in (reference, estimate))
        if not original.any():
            raise AudioError("STOI has no score for silence")
        try:
            with warnings.catch_warnings():  # of too few frames, for which it gives 1e-5
                warnings.simplefilter("error", RuntimeWarning)
                score = self._stoi(original, decoded, sampling_rate)
        except (RuntimeWarning, ValueError, IndexError) as error:
            seconds = reference.shape[-1] / sampling_rate
            raise AudioError(f"STOI has no score for {seconds:.3g} s of it: {error}") from error
        return float(score)
