"""Loudness by ITU-R BS.1770-4, as descript-audiotools measures it, and the gains that follow.

The filters are the RBJ cookbook biquads that pyloudnorm calls "K-weighting". Descript's codec
stores this number in its files and normalises by it, so details of that implementation count:
signals under 0.5 s are zero-padded to it, the last block is zero-padded to its full length, and
nothing is quieter than -70 LUFS.
"""

import copy
import math

import numpy as np

from codax.errors import AudioError

MIN_LOUDNESS_LUFS = -70.0

_BLOCK_S = 0.4
_BLOCK_STRIDE = 0.25  # of a block: blocks overlap by 75%
_MIN_DURATION_S = 0.5
_RELATIVE_GATE_LU = -10.0
_CHANNEL_WEIGHTS = np.array([1.0, 1.0, 1.0, 1.41, 1.41])  # left, right, centre, two surrounds

_SHELF_HZ, _SHELF_GAIN_DB, _SHELF_Q = 1500.0, 4.0, 1 / math.sqrt(2)
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.0, 0.5


def measure_loudness(samples: np.ndarray, sampling_rate: int) -> float:
    """Measure the integrated loudness of all channels together.

    samples: float [C, T] with C from 1 to 5 -> LUFS, at least -70, which is what silence and audio
    without samples measure.

    Raises `AudioError` for another number of channels, and for a sampling rate at which the shelf
    at 1500 Hz does not exist.
    """
    if samples.ndim != 2:
        raise AudioError(f"loudness is defined for [C, T]; got shape {samples.shape}")
    meter = LoudnessMeter(sampling_rate, len(samples))
    meter.push(samples)
    return meter.loudness


class LoudnessMeter:
    """`measure_loudness` of audio that comes in pieces, in memory that hardly grows with it.

    peak: of all samples so far, their largest magnitude
    """

    def __init__(self, sampling_rate: int, channels: int):
        if not 1 <= channels <= len(_CHANNEL_WEIGHTS):
            raise AudioError(
                f"loudness is defined for 1 to {len(_CHANNEL_WEIGHTS)} channels; got {channels}; "
                "loudness_db=None (--no-loudness) does without"
            )
        if sampling_rate <= 2 * _SHELF_HZ:
            raise AudioError(
                f"loudness is defined for sampling rates above {2 * _SHELF_HZ:.0f} Hz; "
                f"got {sampling_rate} Hz"
            )
        self.peak = 0.0
        self._rate = sampling_rate
        self._block = int(_BLOCK_S * sampling_rate)
        self._stride = int(_BLOCK_S * sampling_rate * _BLOCK_STRIDE)
        self._sections = np.stack([_high_shelf(sampling_rate), _high_pass(sampling_rate)])
        self._states = np.zeros((len(self._sections), channels, 2))
        self._filtered = np.zeros((channels, 0))  # K-weighted, from the first unfinished block on
        self._received = 0
        self._powers: list[np.ndarray] = []  # of finished blocks, each [blocks]

    def push(self, samples: np.ndarray) -> None:
        """float [C, n]: what comes next."""
        self.peak = float(np.maximum(self.peak, np.abs(samples).max(initial=0.0)))  # or NaN
        self._received += samples.shape[1]
        self._add(samples)

    @property
    def loudness(self) -> float:
        """LUFS of what has come so far, at least -70."""
        ended = copy.deepcopy(self)
        ended._finish()
        return _gated_loudness(np.concatenate(ended._powers))

    def _add(self, samples: np.ndarray) -> None:
        """Filter, and measure the blocks that are finished.

        |----- block 0 -----|
             |----- block 1 -----|
                  |----- block 2 -----|
        |~~~~~~~~~~~~ channel ~~~~~~~~~~~|
        |-- stride = block / 4
        """
        from scipy.signal import sosfilt  # takes most of a second to load; loudness is an option

        if not samples.shape[1]:
            return
        filtered, self._states = sosfilt(
            self._sections, samples.astype(np.float64), zi=self._states
        )
        held = np.concatenate([self._filtered, filtered], axis=1)
        count = max((held.shape[1] - self._block) // self._stride + 1, 0)
        if count:
            blocks = np.lib.stride_tricks.sliding_window_view(held, self._block, axis=1)
            blocks = blocks[:, : count * self._stride : self._stride]
            powers = np.einsum("cbt,cbt->cb", blocks, blocks) / (_BLOCK_S * self._rate)
            self._powers.append(_CHANNEL_WEIGHTS[: len(powers)] @ powers)
        self._filtered = held[:, count * self._stride :]

    def _finish(self) -> None:
        """Bring a short signal to the shortest duration, and the last block to its length."""
        shortest = int(_MIN_DURATION_S * self._rate)
        self._add(np.zeros((len(self._filtered), max(0, shortest - self._received))))
        overlap = self._block - self._stride
        if self._filtered.shape[1] > overlap:
            missing = self._block - self._filtered.shape[1]
            # Zeros after the filter: the padded block is not filtered on.
            padded = np.pad(self._filtered, ((0, 0), (0, missing)))
            powers = np.einsum("ct,ct->c", padded, padded) / (_BLOCK_S * self._rate)
            self._powers.append(np.atleast_1d(_CHANNEL_WEIGHTS[: len(powers)] @ powers))


def gain_to_loudness(current_db: float, target_db: float) -> float:
    """Give the factor that takes audio from one loudness to another (both in LUFS)."""
    return math.exp((target_db - current_db) * math.log(10) / 20)


def gain_to_peak(largest: float, peak: float = 1.0) -> float:
    """Give the factor that takes samples of up to `largest` down to `peak`, where it is less."""
    return peak / largest if largest > peak else 1.0


def limit_peak(samples: np.ndarray, peak: float = 1.0) -> np.ndarray:
    """Scale audio down, where needed, so that no sample exceeds `peak`.

    samples: float [C, T] -> the same. One gain serves all channels, so the stereo balance stays;
    audiotools' `ensure_max_of_audio` limits every channel by itself and so shifts it.
    """
    gain = gain_to_peak(float(np.max(np.abs(samples), initial=0.0)), peak)
    return samples * gain if gain < 1 else samples


def _high_shelf(sampling_rate: int) -> np.ndarray:
    """High shelf of the RBJ audio EQ cookbook -> b0 b1 b2 a0 a1 a2, divided by a0."""
    amplitude = 10 ** (_SHELF_GAIN_DB / 40)
    omega = 2 * math.pi * _SHELF_HZ / sampling_rate
    cosine = math.cos(omega)
    slope = math.sqrt(amplitude) * math.sin(omega) / _SHELF_Q
    above, below = amplitude + 1, amplitude - 1
    section = np.array(
        [
            amplitude * (above + below * cosine + slope),
            -2 * amplitude * (below + above * cosine),
            amplitude * (above + below * cosine - slope),
            above - below * cosine + slope,
            2 * (below - above * cosine),
            above - below * cosine - slope,
        ]
    )
    return section / section[3]


def _high_pass(sampling_rate: int) -> np.ndarray:
    """High pass of the RBJ audio EQ cookbook -> b0 b1 b2 a0 a1 a2, divided by a0."""
    omega = 2 * math.pi * _HIGH_PASS_HZ / sampling_rate
    cosine = math.cos(omega)
    alpha = math.sin(omega) / (2 * _HIGH_PASS_Q)
    edge = (1 + cosine) / 2
    section = np.array([edge, -2 * edge, edge, 1 + alpha, -2 * cosine, 1 - alpha])
    return section / section[3]


def _gated_loudness(powers: np.ndarray) -> float:
    """Average the blocks above -70 LUFS that are not 10 LU quieter than all those together."""
    with np.errstate(divide="ignore"):  # silent blocks: log of 0
        block_loudness = _as_lufs(powers)
    audible = block_loudness > MIN_LOUDNESS_LUFS
    if not audible.any():
        return MIN_LOUDNESS_LUFS
    relative_gate = _as_lufs(powers[audible].mean()) + _RELATIVE_GATE_LU
    foreground = audible & (block_loudness > relative_gate)
    return float(_as_lufs(powers[foreground].mean()))


def _as_lufs(power: np.ndarray) -> np.ndarray:
    return -0.691 + 10 * np.log10(power)
