"""Loudness against descript-audiotools and pyloudnorm, and the laws of the two gains."""

import importlib.util
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from codax.errors import AudioError
from codax.feature_extraction import gain_to_loudness, limit_peak, measure_loudness
from codax.feature_extraction.loudness import MIN_LOUDNESS_LUFS

# audiotools filters with float32 coefficients; that moves no signal here by as much.
AUDIOTOOLS_TOLERANCE_LU = 1e-3


def noise(num_channels, duration_s, rate_hz, level=0.1):
    shape = (num_channels, int(duration_s * rate_hz))
    return np.random.default_rng(0).normal(0, level, shape).astype(np.float32)


def tone(frequency_hz, duration_s, rate_hz, level=0.5):
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    return level * np.sin(2 * np.pi * frequency_hz * time_s)[None].astype(np.float32)


def noise_in_seconds_of_level(rate_hz, *levels):
    return noise(1, len(levels), rate_hz, level=1.0) * np.repeat(np.float32(levels), rate_hz)


SIGNALS = {
    "noise at 44.1 kHz": (noise(1, 3.21, 44100), 44100),
    "noise at 16 kHz": (noise(1, 3.21, 16000), 16000),
    "noise at 11.025 kHz, whose blocks are no whole number of strides": (
        noise(1, 2.345, 11025),
        11025,
    ),
    "tone of 1 kHz": (tone(1000, 2, 24000), 24000),
    "tone of 100 Hz": (tone(100, 2, 44100), 44100),
    "stereo with unlike channels": (noise(2, 2, 44100) * np.float32([[1.0], [0.1]]), 44100),
    "five channels": (noise(5, 1, 16000), 16000),
    "one second below the relative gate": (
        noise_in_seconds_of_level(24000, 0.3, 0.01, 0.0, 0.1),
        24000,
    ),
    "one second below the absolute gate alone": (
        noise_in_seconds_of_level(24000, 5e-4, 2e-4),
        24000,
    ),
    "quiet": (noise(1, 2, 24000, level=8e-4), 24000),
    "below the floor": (noise(1, 2, 24000, level=1e-5), 24000),
    "silent": (np.zeros((2, 24000), np.float32), 24000),
    "0.1 s long": (noise(1, 0.1, 44100), 44100),
    "0.3 s long": (noise(1, 0.3, 44100), 44100),
    "0.45 s long": (noise(2, 0.45, 16000), 16000),
    "one sample long": (np.ones((1, 1), np.float32), 16000),
    "0.5 s long": (noise(1, 0.5, 16000), 16000),
}


@pytest.fixture(scope="module")
def audiotools_loudness():
    """audiotools' meter from its one file: the package itself imports all of torchaudio and more.

    torchaudio is replaced by the one function that the meter calls.
    """
    package = importlib.util.find_spec("audiotools")
    if package is None or importlib.util.find_spec("julius") is None:
        pytest.skip("descript-audiotools or julius is not installed: no reference to compare with")
    torch = pytest.importorskip("torch", reason="audiotools' meter computes with torch")

    def lfilter(waveform, a_coeffs, b_coeffs, clamp):
        assert not clamp
        filtered = scipy.signal.lfilter(b_coeffs.double(), a_coeffs.double(), waveform.double())
        return torch.from_numpy(filtered)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, not ours
        torchaudio = types.ModuleType("torchaudio")
        torchaudio.functional = types.SimpleNamespace(lfilter=lfilter)
        patch.setitem(sys.modules, "torchaudio", torchaudio)
        file = Path(package.submodule_search_locations[0], "core", "loudness.py")
        spec = importlib.util.spec_from_file_location("audiotools_core_loudness", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

    class Signal(module.LoudnessMixin):
        """As much of an AudioSignal as `loudness` touches."""

        device = "cpu"

        def __init__(self, samples, sampling_rate):
            self.audio_data = torch.from_numpy(samples)[None]
            self.sample_rate = sampling_rate

        @property
        def signal_length(self):
            return self.audio_data.shape[-1]

        @property
        def signal_duration(self):
            return self.signal_length / self.sample_rate

        def zero_pad(self, before, after):
            self.audio_data = torch.nn.functional.pad(self.audio_data, (before, after))

        def truncate_samples(self, length):
            self.audio_data = self.audio_data[..., :length]

    return lambda samples, sampling_rate: Signal(samples, sampling_rate).loudness().item()


@pytest.mark.parametrize("name", SIGNALS)
def test_loudness_equals_audiotools(name, audiotools_loudness):
    samples, sampling_rate = SIGNALS[name]
    expected = audiotools_loudness(samples, sampling_rate)
    measured = measure_loudness(samples, sampling_rate)
    assert measured == pytest.approx(expected, abs=AUDIOTOOLS_TOLERANCE_LU)


@pytest.mark.parametrize("num_channels", [1, 2, 5])
def test_loudness_equals_pyloudnorm_where_no_block_is_padded(num_channels):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    samples = noise(num_channels, 3, 44100) * np.linspace(0, 1, 3 * 44100, dtype=np.float32)
    expected = pyloudnorm.Meter(44100).integrated_loudness(samples.T.astype(np.float64))
    assert measure_loudness(samples, 44100) == pytest.approx(expected, abs=1e-9)


def test_full_scale_tone_of_997_hz_measures_minus_three_lufs():
    """BS.1770-4, annex 1; its filters differ from the cookbook's by some hundredths of a LU."""
    assert measure_loudness(tone(997, 2, 48000, level=1.0), 48000) == pytest.approx(-3.01, abs=0.1)


@pytest.mark.parametrize("num_samples", [0, 1, 16000])
def test_silence_of_any_length_measures_the_floor(num_samples):
    assert measure_loudness(np.zeros((1, num_samples)), 16000) == MIN_LOUDNESS_LUFS


def test_gain_moves_loudness_by_the_difference():
    samples = noise(2, 1, 16000)
    current_db = measure_loudness(samples, 16000)
    louder = samples * gain_to_loudness(current_db, -16.0)
    assert measure_loudness(louder, 16000) == pytest.approx(-16.0, abs=1e-4)  # float32 samples


def test_six_decibels_double():
    assert gain_to_loudness(-20.0, -20.0 + 20 * np.log10(2)) == pytest.approx(2.0)


@pytest.mark.parametrize("shape", [(100,), (0, 100), (6, 100)])
def test_shapes_without_a_loudness_are_refused_by_name(shape):
    with pytest.raises(AudioError, match=f"{shape[0]}"):
        measure_loudness(np.zeros(shape), 16000)


def test_rates_without_a_shelf_filter_are_refused_by_name():
    with pytest.raises(AudioError, match="3000 Hz; got 2000 Hz"):
        measure_loudness(np.zeros((1, 100)), 2000)


def test_peak_limit_keeps_stereo_balance():
    samples = np.array([[0.5, -2.0], [0.25, 1.0]], np.float32)
    limited = limit_peak(samples)
    np.testing.assert_array_equal(limited, samples / 2)
    assert limited.dtype == np.float32


@pytest.mark.parametrize("samples", [np.full((2, 3), 0.9), np.zeros((1, 3)), np.zeros((2, 0))])
def test_peak_limit_leaves_audio_within_it_alone(samples):
    assert limit_peak(samples) is samples


def test_peak_limit_takes_any_peak():
    assert np.abs(limit_peak(np.array([[3.0, -4.0]]), peak=0.5)).max() == 0.5
