"""Distances: values and gradients equal those of the references, and padding changes neither."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codax.evaluation.distances import (
    multi_scale_mel_distance,
    multi_scale_stft_distance,
    si_sdr,
    si_snr,
    waveform_l1,
)
from tests.reference import peers

from . import references

needs_descript = pytest.mark.skipif(
    peers.missing_descript() is not None, reason=str(peers.missing_descript())
)

RATE = 16000
# Means of some thousand float32 logarithms, of sums of up to 2048 products.
VALUE_TOLERANCE = 1e-5
# Of the largest. A logarithm has the gradient of one over a magnitude: where a bin is nearly
# nothing it is large and mostly rounding, so that float32 misses float64 by 4e-3 there and here.
GRADIENT_TOLERANCE = 1e-4
GRADIENT_TOLERANCE_OF_STFT = 4e-3

MEL_RECIPE = {
    "n_mels": [5, 10, 20, 40, 80, 160, 320],
    "window_lengths": [32, 64, 128, 256, 512, 1024, 2048],
    "mel_fmin": [0] * 7,
    "mel_fmax": [None] * 7,
    "pow": 1.0,
    "clamp_eps": 1e-5,
    "mag_weight": 0.0,
}

OURS = {
    "waveform": waveform_l1,
    "stft": multi_scale_stft_distance,
    "mel": functools.partial(multi_scale_mel_distance, sampling_rate=RATE),
    "si_sdr": si_sdr,
    "si_snr": functools.partial(si_snr, sampling_rate=RATE, segment_s=0.05),
}


def clips(*shape):
    """A reference and an estimate that is some 12 dB away from it, float32."""
    generator = np.random.default_rng(0)
    reference = generator.normal(0, 0.2, shape).cumsum(axis=-1) * 0.1
    estimate = 0.9 * reference + generator.normal(0, 0.05, shape) + 0.01
    return estimate.astype(np.float32), reference.astype(np.float32)


def descript_distance(name, estimate, reference):
    """The reference's loss of torch tensors [B, C, T]; a ratio is its negative."""
    losses = references.descript_losses()
    signals = [references.audio_signal(samples, RATE) for samples in (estimate, reference)]
    if name == "waveform":
        return losses.L1Loss()(*signals)
    if name == "stft":
        return losses.MultiScaleSTFTLoss()(*signals)
    if name == "mel":
        return losses.MelSpectrogramLoss(**MEL_RECIPE)(*signals)
    return -losses.SISDRLoss()(signals[1], signals[0])


@functools.cache
def measured(name):
    """Value and gradient of one of our distances, for two clips of two channels."""
    return jax.jit(jax.value_and_grad(OURS[name]))(*map(jnp.array, clips(2, 2, 2400)))


@needs_descript
@pytest.mark.filterwarnings("ignore:stft_data changed shape:UserWarning:audiotools")
@pytest.mark.parametrize("name", ["waveform", "stft", "mel", "si_sdr"])
def test_value_and_gradient_equal_descript(name):
    import torch

    value, gradient = measured(name)
    estimate, reference = map(torch.tensor, clips(2, 2, 2400))
    estimate.requires_grad = True
    expected = descript_distance(name, estimate, reference)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=VALUE_TOLERANCE)
    gradients = estimate.grad.numpy()
    tolerance = GRADIENT_TOLERANCE_OF_STFT if name == "stft" else GRADIENT_TOLERANCE
    atol = tolerance * np.abs(gradients).max()
    np.testing.assert_allclose(gradient, gradients, rtol=0, atol=atol)


@pytest.mark.parametrize("name", OURS)
def test_clips_that_were_padded_have_the_distances_that_they_have_alone(name):
    value, _ = measured(name)
    estimate, reference = clips(2, 2, 2400)
    padding = np.full((2, 2, 500), 7.0, np.float32)  # what lies there must not count
    padded = [
        jnp.array(np.concatenate([samples, sign * padding], axis=-1))
        for samples, sign in ((estimate, 1), (reference, -1))
    ]
    actual = jax.jit(OURS[name])(*padded, num_samples=jnp.array([2400, 2400]))
    np.testing.assert_allclose(actual, value, rtol=VALUE_TOLERANCE)


@pytest.mark.parametrize(
    ("segment_s", "overlap", "expected", "gradient_norm"),
    [(0.05, 0.5, 13.7112303, 1.9074824), (0.1, 0.25, 15.7542963, 1.9153199)],
)
def test_signal_to_noise_ratio_equals_audiocraft(segment_s, overlap, expected, gradient_norm):
    """Against what `audiocraft.losses.SISNR(16000, segment_s, overlap)` of 1.3.0 gave, negated."""
    ratio = functools.partial(si_snr, sampling_rate=RATE, segment_s=segment_s, overlap=overlap)
    value, gradient = jax.value_and_grad(ratio)(*map(jnp.array, clips(2, 2, 2400)))
    np.testing.assert_allclose(value, expected, rtol=VALUE_TOLERANCE)
    np.testing.assert_allclose(jnp.linalg.norm(gradient), gradient_norm, rtol=GRADIENT_TOLERANCE)


def test_ratios_do_not_depend_on_the_level():
    estimate, reference = map(jnp.array, clips(1, 1, 2000))
    for ratio in (si_sdr, OURS["si_snr"]):
        expected = ratio(estimate, reference)
        # The constants that are added to the energies count for less in a louder clip.
        np.testing.assert_allclose(ratio(3 * estimate, reference), expected, atol=0.01)


def test_ratio_of_noise_of_a_tenth_is_twenty_decibels():
    times = np.arange(RATE) / RATE
    reference = np.sin(2 * np.pi * 100 * times)[None, None].astype(np.float32)
    noise = np.sin(2 * np.pi * 300 * times)[None, None].astype(np.float32)  # orthogonal to it
    estimate = jnp.array(reference + 0.1 * noise)
    for ratio in (si_sdr, functools.partial(si_snr, sampling_rate=RATE, segment_s=1, overlap=0)):
        np.testing.assert_allclose(ratio(estimate, jnp.array(reference)), 20, atol=1e-3)


def test_equal_clips_are_no_distance_apart():
    _, reference = map(jnp.array, clips(1, 1, 1500))
    for name in ("waveform", "stft"):
        assert OURS[name](reference, reference) == 0


@pytest.mark.parametrize("name", OURS)
def test_arrays_that_cannot_be_compared_are_refused_by_shape(name):
    with pytest.raises(ValueError, match=r"\(1, 1, 3000\) and \(1, 1, 2999\)"):
        OURS[name](jnp.zeros((1, 1, 3000)), jnp.zeros((1, 1, 2999)))
    with pytest.raises(ValueError, match=r"\(3000,\)"):
        OURS[name](jnp.zeros(3000), jnp.zeros(3000))


def test_clips_of_half_a_window_are_refused_by_length():
    short = jnp.zeros((1, 1, 1024))
    with pytest.raises(ValueError, match="audio of 1024 samples is too short"):
        multi_scale_stft_distance(short, short)


@pytest.mark.parametrize(("segment_s", "overlap"), [(0, 0.5), (1, 1.0), (1, -0.5)])
def test_segments_that_do_not_exist_are_refused_by_value(segment_s, overlap):
    clip = jnp.zeros((1, 1, 100))
    with pytest.raises(ValueError, match=f"segment_s={segment_s} .* overlap={overlap}"):
        si_snr(clip, clip, RATE, segment_s, overlap)
