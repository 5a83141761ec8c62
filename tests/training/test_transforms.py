"""DAC's transforms, against descript-audiotools and by their laws."""

import numpy as np
import pytest

from codax.feature_extraction import measure_loudness
from codax.training.transforms import (
    DAC_TRANSFORMS,
    RescaleAudio,
    ShiftPhase,
    VolumeNorm,
    shift_phase,
    transformed,
)
from tests.reference.peers import import_audiotools, missing_descript

from .clips import noise

RATE = 8000

# Both compute in float32; audio of up to 1 goes through two FFTs of 2048 at most, whose errors are
# a few times float32's spacing of 1.2e-7.
STFT_TOLERANCE = 2e-6


def generator(seed=0):
    return np.random.default_rng(seed)


needs_descript = pytest.mark.skipif(missing_descript() is not None, reason=str(missing_descript()))


@needs_descript
@pytest.mark.parametrize(("rate", "num_samples"), [(44100, 16758), (16000, 6080), (24000, 9121)])
def test_the_three_transforms_equal_those_of_audiotools(rate, num_samples):
    """At the rates of the DAC models, and the 0.38 s of their training."""
    signal_class = import_audiotools().AudioSignal
    samples = noise(1, num_samples)
    samples[0, 1000:1010] = 1.5  # exceeds 1 after -16 LUFS

    signal = signal_class(samples[None], rate).normalize(-16)
    normed = VolumeNorm()(samples, rate, generator())
    # audiotools filters with float32 coefficients; see test_loudness.
    np.testing.assert_allclose(normed, signal.audio_data[0].numpy(), rtol=2e-4)

    signal = signal.ensure_max_of_audio(1.0)
    rescaled = RescaleAudio()(normed, rate, generator())
    # By one gain that takes both to the same peak: what is left is float32's rounding.
    np.testing.assert_allclose(rescaled, signal.audio_data[0].numpy(), rtol=1e-6)
    assert np.abs(rescaled).max() == pytest.approx(1)

    signal.stft()
    signal.shift_phase(0.7).istft()
    turned = shift_phase(rescaled, rate, 0.7)
    np.testing.assert_allclose(turned, signal.audio_data[0].numpy(), atol=STFT_TOLERANCE)


def test_the_recipe_is_loudness_then_peak_then_phase():
    samples = noise(1, RATE, level=0.3)
    source = generator(3)
    made = transformed(samples, RATE, DAC_TRANSFORMS, source)
    angle = generator(3).uniform(-np.pi, np.pi)
    normed = VolumeNorm(-16.0)(samples, RATE, generator())
    np.testing.assert_array_equal(
        made, shift_phase(RescaleAudio(1.0)(normed, RATE, generator()), RATE, angle)
    )


@pytest.mark.parametrize("level", [0.001, 0.5])
def test_volume_norm_gives_the_loudness_that_is_asked_for(level):
    made = VolumeNorm(-20)(noise(2, RATE, level), RATE, generator())
    assert made.dtype == np.float32
    assert measure_loudness(made, RATE) == pytest.approx(-20, abs=1e-3)  # gates may move a block


def test_silence_stays_silence():
    silence = np.zeros((1, RATE), np.float32)
    assert not transformed(silence, RATE, DAC_TRANSFORMS, generator()).any()


def test_rescaling_keeps_the_balance_of_channels_and_what_is_in_bounds():
    samples = np.array([[0.5, -2.0], [0.25, 1.0]], np.float32)
    made = RescaleAudio()(samples, RATE, generator())
    np.testing.assert_array_equal(made, samples / 2)
    np.testing.assert_array_equal(RescaleAudio()(made, RATE, generator()), made)


@pytest.mark.parametrize("num_samples", [100, 800, 1000, 1001])
def test_no_angle_changes_nothing_and_half_a_turn_negates(num_samples):
    samples = noise(2, num_samples)
    for angle, expected in ((0.0, samples), (np.pi, -samples)):
        turned = shift_phase(samples, RATE, angle)
        assert turned.dtype == np.float32
        np.testing.assert_allclose(turned, expected, atol=STFT_TOLERANCE)


def test_a_quarter_turn_makes_a_sine_of_a_cosine():
    phase = 2 * np.pi * 1000 * np.arange(2000) / RATE
    turned = shift_phase(np.cos(phase, dtype=np.float32)[None], RATE, np.pi / 2)
    inside = slice(400, -400)  # reflection turns the phase back at the ends
    # cos(x + pi / 2); a Hann window leaks to negative frequencies by no more.
    np.testing.assert_allclose(turned[0, inside], -np.sin(phase)[inside], atol=1e-3)


def test_angles_are_drawn_by_the_generator_from_the_range():
    samples = noise(1, 1000)
    always = ShiftPhase(0.5, 0.5)(samples, RATE, generator())
    np.testing.assert_array_equal(always, shift_phase(samples, RATE, 0.5))
    drawn = [ShiftPhase()(samples, RATE, generator(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 0.01


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VolumeNorm(float("nan")), "loudness_db=nan must be"),
        (lambda: RescaleAudio(0.0), r"peak=0\.0 must be"),
        (lambda: ShiftPhase(1.0, -1.0), r"low=1\.0, high=-1\.0 must be"),
    ],
)
def test_values_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
