"""The comparison itself: what it lets through and what it must not."""

import numpy as np
import pytest

from .agreement import (
    ROUNDING_FACTOR,
    assert_close,
    assert_codes_agree,
    compare_codes,
)

NUM_LEVELS, NUM_FRAMES, CODEBOOK_SIZE = 3, 4, 5
ROUNDING_ERROR = 1e-5


class FakeDistances:
    """Codeword 0 is nearest everywhere, 1 farther by `gap`, the others far away."""

    def __init__(self, gap):
        self.gap = gap

    def at(self, batch, level, frame):
        exact = np.array([1.0, 1.0 + self.gap, 1.5, 1.5, 1.5])
        return exact, exact + ROUNDING_ERROR * np.array([1, -1, 0, 0, 1])


class NeverAsked:
    def at(self, batch, level, frame):
        raise AssertionError("distances were computed though all codes are equal")


TIE = FakeDistances(gap=0.9 * ROUNDING_FACTOR * ROUNDING_ERROR)
NO_TIE = FakeDistances(gap=1.1 * ROUNDING_FACTOR * ROUNDING_ERROR)


@pytest.fixture
def expected():
    return np.zeros((1, NUM_LEVELS, NUM_FRAMES), np.int64)


def with_codes(codes, changes):
    changed = codes.copy()
    for index, code in changes.items():
        changed[index] = code
    return changed


def test_equal_codes_agree_without_computing_distances(expected):
    agreement = assert_codes_agree(expected, expected.astype(np.int32), NeverAsked(), "test")
    assert (agreement.first_difference == NUM_LEVELS).all()
    assert agreement.num_codes == NUM_LEVELS * NUM_FRAMES


def test_near_tie_is_excused_and_printed_with_its_margin(expected, capsys):
    actual = with_codes(expected, {(0, 1, 2): 1})
    agreement = assert_codes_agree(expected, actual, TIE, "speech")
    (excused,) = agreement.excused
    assert (excused.batch, excused.level, excused.frame) == (0, 1, 2)
    assert excused.margin == pytest.approx(TIE.gap)
    printed = capsys.readouterr().out
    assert "near-tie: speech, batch 0, frame 2, level 1: code 1 instead of 0" in printed
    assert f"margin {TIE.gap:.2e}" in printed


def test_difference_beyond_rounding_fails_naming_input_frame_level_and_margin(expected):
    actual = with_codes(expected, {(0, 1, 2): 1})
    message = (
        rf"FAULT: speech, batch 0, frame 2, level 1: code 1 instead of 0, margin {NO_TIE.gap:.2e}"
    )
    with pytest.raises(AssertionError, match=message):
        assert_codes_agree(expected, actual, NO_TIE, "speech")


def test_codeword_that_is_not_near_fails_even_where_two_others_tie(expected):
    with pytest.raises(AssertionError, match="code 3 instead of 0"):
        assert_codes_agree(expected, with_codes(expected, {(0, 1, 2): 3}), TIE, "speech")


def test_reference_choosing_the_far_codeword_fails_too(expected):
    with pytest.raises(AssertionError, match="code 0 instead of 3"):
        assert_codes_agree(with_codes(expected, {(0, 1, 2): 3}), expected, TIE, "speech")


def test_deeper_levels_of_an_excused_frame_follow_from_it(expected):
    actual = with_codes(expected, {(0, 0, 2): 1, (0, 1, 2): 4, (0, 2, 2): 3})
    agreement = assert_codes_agree(expected, actual, TIE, "test")
    assert len(agreement.excused) == 1
    assert agreement.first_difference.tolist() == [[3, 3, 0, 3]]
    assert agreement.frames_equal_before(1).tolist() == [[True, True, False, True]]


def test_excused_frame_does_not_hide_a_fault_in_another_frame(expected):
    actual = with_codes(expected, {(0, 0, 2): 1, (0, 2, 3): 4})
    agreement = compare_codes(expected, actual, TIE, "test")
    assert [found.frame for found in agreement.excused] == [2]
    assert [found.frame for found in agreement.faults] == [3]
    with pytest.raises(AssertionError, match=r"1 of 12 codes differ .*\(1 near-ties apart\)"):
        assert_codes_agree(expected, actual, TIE, "test")


def test_shifted_frames_fail(expected):
    codes = np.arange(NUM_FRAMES) % 2 + expected
    with pytest.raises(AssertionError, match="4 of 12 codes differ"):
        assert_codes_agree(codes, np.roll(codes, 1, axis=-1), NO_TIE, "test")


@pytest.mark.parametrize("code", [-1, CODEBOOK_SIZE])
def test_code_outside_the_codebook_fails(expected, code):
    with pytest.raises(AssertionError, match=r"outside \[0, 5\)"):
        assert_codes_agree(expected, with_codes(expected, {(0, 0, 0): code}), TIE, "test")


def test_shapes_must_be_equal(expected):
    with pytest.raises(AssertionError, match="shape"):
        assert_codes_agree(expected, expected[:, :, 1:], TIE, "test")


@pytest.mark.parametrize("wrong", [0.1, -0.1, np.nan])
def test_close_names_stage_and_place_of_the_worst_value(wrong):
    expected = np.zeros((2, 3))
    actual = expected.copy()
    actual[1, 2] = wrong
    with pytest.raises(AssertionError, match=r"decoder: off by .* at \(1, 2\)"):
        assert_close(expected, actual, 0.05, "decoder")
    assert_close(expected, np.nan_to_num(actual), 0.2, "decoder")
