"""Layouts of codes for language models: what their definitions say, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from codax import FormatError
from codax.corpus import delayed, flattened, undelayed, unflattened

SIZE = 16


def codes_of(frames):
    return arrays.arrays(
        st.sampled_from([np.int16, np.int32, np.uint8, np.int64]),
        st.tuples(st.integers(1, 5), frames),
        elements=st.integers(0, SIZE - 1),
    )


@given(codes_of(st.integers(1, 7)))
def test_delayed_codes_come_back(codes):
    steps = delayed(codes, pad=SIZE)
    assert steps.shape == (len(codes), codes.shape[1] + len(codes) - 1)
    assert (steps == SIZE).sum() == steps.size - codes.size
    back = undelayed(steps)
    np.testing.assert_array_equal(back, codes)
    assert steps.dtype == back.dtype == codes.dtype


@given(codes_of(st.integers(0, 7)))
def test_flattened_codes_come_back(codes):
    tokens = flattened(codes, SIZE)
    assert (tokens.shape, tokens.dtype) == ((codes.size,), np.int32)
    back = unflattened(tokens, len(codes), SIZE)
    np.testing.assert_array_equal(back, codes)
    assert back.dtype == np.int32


CODES_BY_HAND = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_every_codebook_is_one_step_later_than_the_one_before():
    """MusicGen's figure of the delay pattern."""
    assert delayed(CODES_BY_HAND, pad=0).tolist() == [
        [1, 2, 3, 0, 0],
        [0, 4, 5, 6, 0],
        [0, 0, 7, 8, 9],
    ]


def test_codebooks_of_a_frame_follow_each_other_with_tokens_of_their_own():
    """MusicGen's figure of the flattening pattern; codebook k has the tokens from 10 k on."""
    tokens = [1, 14, 27, 2, 15, 28, 3, 16, 29]
    assert flattened(CODES_BY_HAND, 10).tolist() == tokens
    assert unflattened(tokens, 3, 10).tolist() == CODES_BY_HAND


def test_what_a_model_put_into_the_padding_is_dropped():
    steps = [[1, 2, 3, 7, 7], [7, 4, 5, 6, 7], [7, 7, 7, 8, 9]]
    assert undelayed(steps).tolist() == CODES_BY_HAND


def test_tokens_after_the_last_whole_frame_are_dropped():
    assert unflattened([1, 14, 27, 2, 15], 3, 10).tolist() == [[1], [4], [7]]


def test_a_pad_that_is_a_code_is_refused():
    with pytest.raises(FormatError, match="pad=5 is a code"):
        delayed(CODES_BY_HAND, pad=5)


def test_a_pad_that_the_type_of_the_codes_does_not_have_is_refused():
    with pytest.raises(FormatError, match="pad=32768 is no int16"):
        delayed(np.array(CODES_BY_HAND, np.int16), pad=2**15)


@pytest.mark.parametrize("codes", [[[1, 16], [0, 0]], [[1, -1], [0, 0]], [[2**32], [0]]])
def test_codes_beyond_the_codebook_are_refused(codes):
    with pytest.raises(FormatError, match="allowed: 0 to 15"):
        flattened(codes, SIZE)


@pytest.mark.parametrize("token", [2, 9, 20, -1, 2**32 + 14])
def test_a_token_in_the_place_of_another_codebook_is_named(token):
    with pytest.raises(FormatError, match=f"token 4 is {token}, allowed: 10 to 19, .* codebook 1"):
        unflattened([1, 14, 27, 2, token, 28], 3, 10)


def test_steps_without_a_whole_frame_are_refused():
    assert undelayed([[1], [2]][:1]).tolist() == [[1]]
    with pytest.raises(FormatError, match="1 steps hold no frame of 2 codebooks"):
        undelayed([[1], [2]])


@pytest.mark.parametrize(
    "codes", [[1, 2], [[[1]]], [[1.0]], [[True]], [["a"]], [[1], [1, 2]], np.zeros((0, 3), int), 5]
)
@pytest.mark.parametrize(
    "layout", [lambda codes: delayed(codes, SIZE), undelayed, lambda codes: flattened(codes, SIZE)]
)
def test_what_is_no_codes_is_refused(layout, codes):
    with pytest.raises(FormatError, match=r"allowed: (integers )?\[K, F\]"):
        layout(codes)


@pytest.mark.parametrize("tokens", [[[1]], [1.0], ["a"], 5])
def test_what_is_no_tokens_is_refused(tokens):
    with pytest.raises(FormatError, match=r"allowed: integers \[F \* K\]"):
        unflattened(tokens, 3, 10)
