import numpy as np
import pytest

from . import encodec_inputs
from .encodec_variants import ENCODEC_VARIANTS, TINY_VARIANTS

ALL_VARIANTS = (*TINY_VARIANTS.values(), *ENCODEC_VARIANTS.values())
on_all_variants = pytest.mark.parametrize("variant", ALL_VARIANTS, ids=lambda variant: variant.name)

SEGMENT_BOUNDARIES = {
    *(47519, 47520, 47521, 47680, 47681, 47839, 47840, 47841, 47842),
    *(48000, 48001, 95040, 95200, 95201, 95521),
}


@on_all_variants
def test_inputs_are_repeatable_float32_within_full_scale(variant):
    for name in encodec_inputs.names(variant):
        audio = encodec_inputs.make_input(name, variant)
        encodec_inputs.make_input.cache_clear()
        again = encodec_inputs.make_input(name, variant)
        assert audio is not again
        assert audio.dtype == np.float32
        assert audio.shape == (variant.audio_channels, encodec_inputs.num_samples(name, variant))
        np.testing.assert_array_equal(audio, again)
        assert np.abs(audio).max() < 2.0 if "noise" in name else np.abs(audio).max() <= 1.0


@on_all_variants
def test_there_are_many_inputs_and_none_twice(variant):
    names = encodec_inputs.names(variant)
    signals = {encodec_inputs.make_input(name, variant).tobytes() for name in names}
    assert len(signals) == len(names) >= 25


def test_lengths_of_the_48khz_model_lie_at_segment_boundaries():
    variant = ENCODEC_VARIANTS["encodec_48khz"]
    lengths = [encodec_inputs.num_samples(name, variant) for name in encodec_inputs.names(variant)]
    assert set(lengths) >= SEGMENT_BOUNDARIES
    assert set(lengths) >= {1, 319, 320, 321, 480000}


@on_all_variants
def test_standard_length_is_no_whole_number_of_frames(variant):
    length = encodec_inputs.standard_length(variant)
    assert length % variant.hop_length
    assert length > (variant.chunk_length or 0)


@pytest.mark.parametrize("name", ["tiny_segmented", "encodec_48khz"])
def test_channels_of_stereo_inputs_differ(name):
    variant = {**TINY_VARIANTS, **ENCODEC_VARIANTS}[name]
    left, right = encodec_inputs.make_input("music_opposite", variant)
    assert not (left + right).any()
    assert left.any()
    left, right = encodec_inputs.make_input("music_one_side", variant)
    assert left.any()
    assert not right.any()
    for differing in ("speech", "music", "white_noise", "click_train"):
        left, right = encodec_inputs.make_input(differing, variant)
        assert not np.array_equal(left, right)
