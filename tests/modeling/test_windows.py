"""Laws of `windows`: nothing is left out, nothing twice, and all is seen with its context."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codax.modeling.windows import Window, joined, windows


@st.composite
def clips(draw):
    """(num_frames, size, context) with windows that are longer than their context."""
    context = draw(st.tuples(st.integers(0, 30), st.integers(0, 30)))
    size = draw(st.integers(sum(context) + 1, 4 * sum(context) + 50))
    return draw(st.integers(1, 2000)), size, context


@given(clips())
def test_every_frame_is_kept_exactly_once_and_in_order(clip):
    num_frames, *_ = clip
    kept = [frame for window in windows(*clip) for frame in range(*window[2:])]
    assert kept == list(range(num_frames))


@given(clips())
def test_all_windows_have_the_same_size_and_lie_in_the_clip(clip):
    num_frames, size, _ = clip
    sizes = {window.stop - window.start for window in windows(*clip)}
    assert sizes == {min(size, num_frames)}
    assert all(window.start >= 0 and window.stop <= num_frames for window in windows(*clip))


@given(clips())
def test_what_is_kept_has_its_context_or_ends_with_the_clip(clip):
    num_frames, _, (left, right) = clip
    for window in windows(*clip):
        assert window.start == 0 or window.keep_start - window.start >= left
        assert window.stop == num_frames or window.stop - window.keep_stop >= right


@given(clips())
def test_every_window_keeps_something(clip):
    assert all(window.keep_start < window.keep_stop for window in windows(*clip))


def test_a_clip_that_fits_is_one_window():
    assert list(windows(100, 100, (5, 5))) == [Window(0, 100, 0, 100)]


def test_one_frame_more_makes_two_windows_of_which_the_last_is_moved_back():
    assert list(windows(101, 100, (5, 7))) == [Window(0, 100, 0, 93), Window(1, 101, 93, 101)]


def test_windows_without_room_for_anything_but_context_do_not_go_on_for_ever():
    with pytest.raises(ValueError, match="6"):
        list(itertools.islice(windows(10, 6, (3, 3)), 100))


# --- joined --------------------------------------------------------------------------------------


@given(
    num_frames=st.integers(1, 300),
    size=st.integers(1, 60),
    share=st.floats(0, 0.99),
    units=st.integers(1, 4),
)
def test_windows_of_a_clip_that_overlap_become_the_clip_again(num_frames, size, share, units):
    overlap = min(round(share * size), size - 1)
    clip = np.random.default_rng(0).standard_normal((2, num_frames * units)).astype(np.float32)
    fade = np.linspace(0, 1, overlap * units).astype(np.float32)
    kept = (
        clip[:, window.keep_start * units : window.keep_stop * units]
        for window in windows(num_frames, size, (0, 0), overlap)
    )
    whole = np.concatenate([*joined(kept, fade)], axis=-1)
    np.testing.assert_allclose(whole, clip, atol=1e-6)


def test_a_later_piece_fades_in_where_two_overlap():
    pieces = [np.float32([1, 1, 1, 1]), np.float32([3, 3, 3])]
    given_out = [piece.tolist() for piece in joined(pieces, np.float32([0.25, 0.75]))]
    assert [value for piece in given_out for value in piece] == [1, 1, 1.5, 2.5, 3]
    assert given_out[0] == [1, 1]  # before the second piece is asked for


def test_nothing_is_joined_to_nothing():
    assert list(joined([], np.float32([0.5]))) == []
