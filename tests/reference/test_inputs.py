import numpy as np
import pytest

from . import inputs
from .variants import TINY, TINY_NARROW, VARIANTS

ALL_VARIANTS = [TINY, TINY_NARROW, *VARIANTS.values()]


@pytest.mark.parametrize("variant", ALL_VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("name", inputs.ALL)
def test_input_is_repeatable_float32_within_full_scale(variant, name):
    audio = inputs.make_input(name, variant.sampling_rate, variant.hop_length)
    inputs.make_input.cache_clear()
    again = inputs.make_input(name, variant.sampling_rate, variant.hop_length)
    assert audio is not again
    assert audio.dtype == np.float32
    assert audio.ndim == 1
    np.testing.assert_array_equal(audio, again)
    assert np.abs(audio).max() < 2.0 if "noise" in name else np.abs(audio).max() <= 1.0


def test_there_are_many_inputs_and_none_twice():
    signals = {inputs.make_input(name, 44100, 512).tobytes() for name in inputs.ALL}
    assert len(signals) == len(inputs.ALL) >= 20


def test_lengths_are_what_their_names_say():
    rate, hop = 44100, 512
    lengths = {name: len(inputs.make_input(name, rate, hop)) for name in inputs.ALL}
    assert lengths["one_sample"] == 1
    assert lengths["hop_minus_1"] == 511
    assert lengths["two_hops_minus_1"] == 1023
    assert lengths["three_hops_plus_7"] == 1543
    assert lengths["half_second"] == 22050
    assert lengths["ten_seconds"] == 441000
    assert lengths["speech"] == 43 * 512


@pytest.mark.parametrize("variant", ALL_VARIANTS, ids=lambda variant: variant.name)
def test_quick_inputs_cost_two_compilations(variant):
    padded = {
        inputs.pad_to_hop(
            inputs.make_input(name, variant.sampling_rate, variant.hop_length), variant.hop_length
        ).shape
        for name in inputs.QUICK
    }
    assert len(padded) == 2


def test_padding_is_zeros_on_the_right_to_a_whole_number_of_hops():
    audio = np.ones((2, 1, 7), np.float32)
    padded = inputs.pad_to_hop(audio, 5)
    assert padded.shape == (2, 1, 10)
    assert padded[..., :7].all()
    assert not padded[..., 7:].any()
    assert inputs.pad_to_hop(padded, 5).shape == padded.shape


def test_assets_are_a_mono_voice_and_a_left_heavy_stereo_mix():
    speech, music = (inputs.asset(name, 44100) for name in ("speech", "music"))
    assert speech.shape[0] == 1
    assert music.shape[0] == 2
    left, right = np.sqrt((music**2).mean(axis=1))
    assert 20 * np.log10(left / right) == pytest.approx(6.4, abs=0.1)
    assert sum(path.stat().st_size for path in inputs.ASSETS.glob("*.flac")) < 1e6
