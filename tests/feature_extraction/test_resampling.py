"""Laws of sampling-rate conversion."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from codax.errors import AudioError
from codax.feature_extraction import resample

RATES_HZ = st.sampled_from([8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000, 96000])


def noise(*shape, dtype=np.float32):
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(dtype)


@settings(deadline=None)  # a busy machine is no fault
@given(st.integers(0, 3000), RATES_HZ, RATES_HZ)
def test_length_is_the_ceiling_of_the_exact_length(num_samples, from_rate, to_rate):
    converted = resample(noise(num_samples), from_rate, to_rate)
    assert converted.shape == (-(-num_samples * to_rate // from_rate),)


@settings(deadline=None)  # a busy machine is no fault
@given(st.integers(1, 3000), RATES_HZ, RATES_HZ)
def test_samples_are_those_of_soxr(num_samples, from_rate, to_rate):
    samples = noise(num_samples)
    expected = soxr.resample(samples, from_rate, to_rate, quality="HQ")
    converted = resample(samples, from_rate, to_rate)
    # The zeros at the end shift the blocks of soxr's float32 FFT: its rounding, and no more.
    np.testing.assert_allclose(converted[: len(expected)], expected, atol=1e-6)


def test_equal_rates_change_nothing():
    samples = noise(2, 100)
    assert resample(samples, 44100, 44100) is samples


@pytest.mark.parametrize("shape", [(1000,), (2, 1000), (3, 2, 1000), (2, 0), (0, 10)])
def test_leading_axes_stay(shape):
    assert resample(noise(*shape), 48000, 24000).shape == (*shape[:-1], shape[-1] // 2)


def test_channels_are_converted_one_by_one():
    samples = noise(3, 2, 1000)
    converted = resample(samples, 44100, 16000)
    for index in np.ndindex(3, 2):
        np.testing.assert_allclose(converted[index], resample(samples[index], 44100, 16000), atol=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_type_stays(dtype):
    assert resample(noise(100, dtype=dtype), 16000, 44100).dtype == dtype


def test_tone_keeps_pitch_phase_and_level():
    def tone(rate_hz):
        return np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz)

    converted = resample(tone(44100), 44100, 16000)
    inside = slice(1000, -1000)  # the filter sees silence beyond both ends
    # 20-bit quality
    np.testing.assert_allclose(converted[inside], tone(16000)[inside], atol=2**-18)


@pytest.mark.parametrize("rates", [(0, 16000), (16000, 0), (-1, 16000)])
def test_rates_that_are_not_positive_are_refused(rates):
    with pytest.raises(AudioError, match=str(min(rates))):
        resample(noise(10), *rates)
