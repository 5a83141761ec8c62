"""Spectra against audiotools' and torch's, mel filters against librosa's and torchaudio's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.evaluation.spectra import (
    frames,
    hann_window,
    mel_filter_bank,
    mel_spectrogram,
    num_frames,
    stft,
)
from tests.reference import peers

from . import references

needs_descript = pytest.mark.skipif(
    peers.missing_descript() is not None, reason=str(peers.missing_descript())
)

RATE = 24000
# Of sums of up to 2048 products in float32, relative to the largest value of the spectrum.
ROUNDING = 1e-6


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def assert_close(actual, expected, tolerance=ROUNDING):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@needs_descript
@pytest.mark.parametrize(
    ("window_length", "hop_length", "match_stride"),
    [(32, 8, False), (2048, 512, False), (300, 64, False), (512, 128, True)],
)
def test_spectrum_equals_audiotools(window_length, hop_length, match_stride):
    samples = noise(2, 2, 3001)
    expected = references.audio_signal(samples, RATE).stft(
        window_length, hop_length, "hann", match_stride
    )
    actual = stft(jnp.array(samples), window_length, hop_length, match_stride=match_stride)
    assert_close(actual, expected.numpy())


@pytest.mark.parametrize(("window_length", "hop_length"), [(64, 16), (100, 30)])
def test_spectrum_that_is_not_centred_equals_torch(window_length, hop_length):
    import torch

    samples = noise(3, 1000)
    window = torch.hann_window(window_length)
    expected = torch.stft(
        torch.tensor(samples),
        window_length,
        hop_length,
        window=window,
        center=False,
        return_complex=True,
    )
    actual = stft(jnp.array(samples), window_length, hop_length, centred=False, normalized=True)
    assert_close(actual, (expected / window.square().sum().sqrt()).numpy())


def test_strided_frames_are_as_many_as_those_of_a_strided_convolution():
    assert stft(jnp.array(noise(1001)), 128, match_stride=True).shape == (65, -(-1001 // 32))


@needs_descript
def test_gradient_through_the_spectrum_equals_torch():
    import torch

    samples = noise(1, 1, 900)
    tensor = torch.tensor(samples, requires_grad=True)
    references.audio_signal(tensor, RATE).stft(256, 64, "hann").abs().sum().backward()
    gradient = jax.grad(lambda samples: jnp.abs(stft(samples, 256)).sum())(jnp.array(samples))
    assert_close(gradient, tensor.grad.numpy(), 1e-5)  # sums over 5 frames of 129 bins each


def test_gradient_at_silence_is_finite():
    gradient = jax.grad(lambda samples: jnp.abs(stft(samples, 64)).sum())(jnp.zeros(200))
    np.testing.assert_array_equal(gradient, 0)


@needs_descript
def test_mel_spectrum_equals_audiotools():
    samples = noise(2, 1, 3000)
    references.descript_losses()
    expected = references.audio_signal(samples, RATE).mel_spectrogram(
        40, window_length=512, hop_length=128, window_type="hann"
    )
    assert_close(mel_spectrogram(jnp.array(samples), RATE, 40, 512), expected.numpy())


def test_padded_clips_have_the_frames_that_they_have_alone():
    window_length = 99  # odd, and not a multiple of its hop
    lengths = [300, 211, 64]
    padded = jnp.array(noise(3, 2, 300))
    spectra = stft(padded, window_length, num_samples=jnp.array(lengths))
    for clip, spectrum, length in zip(padded, spectra, lengths, strict=True):
        alone = stft(clip[:, :length], window_length)
        assert alone.shape[-1] == num_frames(length, window_length)
        assert_close(spectrum[..., : alone.shape[-1]], alone)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize(
    ("rate", "n_fft", "num_mels", "f_min", "f_max"),
    [(44100, 2048, 320, 0.0, None), (24000, 64, 64, 64.0, None), (16000, 512, 80, 20.0, 7600.0)],
)
def test_mel_filters_equal_those_of_transformers(scale, rate, n_fft, num_mels, f_min, f_max):
    expected = references.mel_filters(rate, n_fft, num_mels, f_min, f_max, scale)
    actual = mel_filter_bank(rate, n_fft, num_mels, f_min, f_max, scale)
    assert_close(actual, expected)


# Of 6 filters for 64 samples at 11025 Hz, whose half is no whole number: the sums of each filter,
# and of each weighted by 0, 1, ..., 32, as librosa 0.11.0 and torchaudio 2.11.0 give them.
# torchaudio computes in float32.
GOLDENS = {
    "slaney": (
        [0.005756158, 0.005742532, 0.005778219, 0.005853869, 0.005790353, 0.005797633],
        [0.012963056, 0.025509835, 0.040306426, 0.060914622, 0.089193946, 0.131874775],
    ),
    "htk": (
        [1.6754704, 2.3959618, 3.2735736, 4.5130315, 6.1169300, 8.3545060],
        [2.93405858, 9.01307261, 21.62391826, 47.58422202, 97.30860554, 193.74146283],
    ),
}


@pytest.mark.parametrize("scale", GOLDENS)
def test_mel_filters_equal_librosa_and_torchaudio_at_an_odd_rate(scale):
    bank = mel_filter_bank(11025, 64, 6, scale=scale)
    sums, weighted = GOLDENS[scale]
    np.testing.assert_allclose(bank.sum(axis=1), sums, rtol=1e-6)
    np.testing.assert_allclose(bank @ np.arange(33.0), weighted, rtol=1e-6)


def test_slaney_filters_have_unit_area_over_hertz():
    rate, n_fft = 16000, 8192  # fine bins: a sum of a triangle's samples is nearly its area
    areas = mel_filter_bank(rate, n_fft, 20).sum(axis=1) * rate / n_fft
    np.testing.assert_allclose(areas, 1, atol=1e-2)


def test_overlapping_frames_are_slices():
    samples = np.arange(23.0, dtype=np.float32)
    expected = np.stack([samples[start : start + 7] for start in (0, 3, 6, 9, 12, 15)])
    np.testing.assert_array_equal(frames(jnp.array(samples), 7, 3), expected)


def test_frames_of_a_hop_beyond_their_length_leave_samples_out():
    np.testing.assert_array_equal(frames(jnp.arange(9), 2, 4), [[0, 1], [4, 5]])


def test_window_and_filters_cannot_be_changed_for_the_next_caller():
    with pytest.raises(ValueError, match="read-only"):
        mel_filter_bank(RATE, 64, 4)[:] = 0
    hann_window(4)[:] = 0
    np.testing.assert_allclose(hann_window(4), [0, 0.5, 1, 0.5], atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_length": 1}, "at least 2 .* got 1 and 0"),
        ({"window_length": 32, "hop_length": 0}, "hop_length at least 1; got 32 and 0"),
        ({"window_length": 32, "hop_length": 10, "match_stride": True}, r"\(8\); got 10"),
        ({"window_length": 202}, "audio of 101 samples is too short: .* by 101 samples"),
        ({"window_length": 102, "centred": False}, "101 samples is shorter than a frame of 102"),
    ],
)
def test_spectra_that_do_not_exist_are_refused_by_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        stft(jnp.zeros(101), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((RATE, 512, 0), "num_mels=0"),
        ((RATE, 512, 10, 13000.0), "f_min=13000.0, f_max=12000.0"),
        ((RATE, 512, 10, 0.0, None, "bark"), "slaney, htk; got 'bark'"),
    ],
)
def test_filters_that_do_not_exist_are_refused_by_value(arguments, message):
    with pytest.raises(ValueError, match=message):
        mel_filter_bank(*arguments)
