"""A wrong stage is named, and frames whose codes differ by a near-tie are left out after it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.reference.encoding import Encoding

from .stages import assert_audio_agrees, assert_encodings_agree

LEVELS, FRAMES, WIDTH = 2, 6, 3


@pytest.fixture
def encoding():
    rng = np.random.default_rng(0)
    return Encoding(
        codes=rng.integers(0, 4, (1, LEVELS, FRAMES)),
        projected_latents=rng.standard_normal((1, LEVELS * WIDTH, FRAMES)),
        quantized=rng.standard_normal((1, 8, FRAMES)),
        loss=np.array([2.5]),
    )


def distances(gap):
    exact = gap * np.arange(4.0)
    return SimpleNamespace(at=lambda *_: (exact, exact.astype(np.float32)))


TIE, NO_TIE = distances(gap=0.0), distances(gap=0.1)


def with_change(array, index, change):
    array = array.copy()
    array[index] += change
    return array


def test_equal_encodings_agree(encoding):
    agreement = assert_encodings_agree(encoding, encoding, NO_TIE, "test")
    assert agreement.num_codes == LEVELS * FRAMES
    assert not agreement.disagreements


def test_loss_may_be_one_number_or_one_per_item(encoding):
    assert_encodings_agree(encoding, replace(encoding, loss=np.array(2.5)), NO_TIE, "test")


@pytest.mark.parametrize(
    ("stage", "field", "index"),
    [
        (r"projected latents of level 0 \(from the encoder\)", "projected_latents", (0, 1, 4)),
        (r"projected latents of level 1 \(from the residual", "projected_latents", (0, 4, 4)),
        ("quantized representation", "quantized", (0, 5, 4)),
        ("loss", "loss", (0,)),
    ],
)
def test_wrong_stage_is_named(encoding, stage, field, index):
    wrong = replace(encoding, **{field: with_change(getattr(encoding, field), index, 1e-3)})
    with pytest.raises(AssertionError, match=rf"speech: {stage}"):
        assert_encodings_agree(encoding, wrong, NO_TIE, "speech")


def test_first_wrong_stage_is_named_when_all_after_it_are_wrong_too(encoding):
    wrong = Encoding(
        codes=(encoding.codes + 1) % 4,
        projected_latents=encoding.projected_latents + 0.1,
        quantized=encoding.quantized + 0.1,
        loss=encoding.loss + 0.1,
    )
    with pytest.raises(AssertionError, match="projected latents of level 0"):
        assert_encodings_agree(encoding, wrong, NO_TIE, "test")


def test_wrong_choice_among_right_distances_is_a_fault_of_the_codes(encoding):
    wrong = replace(encoding, codes=(encoding.codes + 1) % 4)
    with pytest.raises(AssertionError, match="6 of 12 codes differ"):
        assert_encodings_agree(encoding, wrong, NO_TIE, "test")


def test_frame_of_a_near_tie_is_left_out_of_the_stages_after_it(encoding):
    codes = encoding.codes.copy()
    codes[0, 0, 4] = (codes[0, 0, 4] + 1) % 4
    other = Encoding(
        codes=codes,
        projected_latents=with_change(encoding.projected_latents, (0, 4, 4), 1.0),
        quantized=with_change(encoding.quantized, (0, 5, 4), 1.0),
        loss=encoding.loss + 0.1,
    )
    agreement = assert_encodings_agree(encoding, other, TIE, "test")
    assert [excused.frame for excused in agreement.excused] == [4]
    too_early = with_change(encoding.projected_latents, (0, 1, 4), 1.0)
    with pytest.raises(AssertionError, match="projected latents of level 0"):
        assert_encodings_agree(encoding, replace(other, projected_latents=too_early), TIE, "test")


def test_audio_of_another_length_or_level_disagrees():
    audio = np.zeros((1, 100), np.float32)
    assert_audio_agrees(audio, audio + 5e-6, "test")
    with pytest.raises(AssertionError, match="decoded audio: shape"):
        assert_audio_agrees(audio, audio[:, 8:], "test")
    with pytest.raises(AssertionError, match="decoded audio: off by"):
        assert_audio_agrees(audio, audio + 2e-5, "test")
