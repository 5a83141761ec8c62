"""Laws of `Sliding`, for networks that are sums of neighbours: whatever the pieces, the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codax.streaming.sliding import Network, Sliding, Windows

HOP_LENGTH = 5
LEFT, RIGHT = 2, 3  # frames


def summing(takes_lengths=False, has_state=False):
    """Sums over the frames from LEFT before to RIGHT after; with a state, plus all before those."""
    seen = []

    def run(state, windows: Windows):
        seen.append(windows)
        frames = windows.inputs.reshape(len(windows.inputs), -1, HOP_LENGTH).sum(axis=-1)
        padded = np.pad(frames, ((0, 0), (LEFT, RIGHT)))
        sums = np.lib.stride_tricks.sliding_window_view(padded, LEFT + RIGHT + 1, axis=-1).sum(-1)
        if has_state:
            (start,) = windows.starts
            before = np.zeros(len(frames)) if start == 0 else state
            totals = before[:, None] + np.cumsum(frames, axis=1)
            sums = sums + 100 * totals
            state = (before + frames[:, : windows.following - start].sum(axis=1)).copy()
        return state, sums

    network = Network(
        in_units=HOP_LENGTH,
        out_units=1,
        context=(LEFT, RIGHT),
        determined=lambda samples: max(samples // HOP_LENGTH - RIGHT, 0),
        total=lambda samples: -(-samples // HOP_LENGTH),
        run=run,
        takes_lengths=takes_lengths,
        has_state=has_state,
    )
    return network, seen


def expanding():
    """The way back: each sample is the sum over the frames around its own, times its position."""

    def run(state, windows: Windows):
        padded = np.pad(windows.inputs, ((0, 0), (LEFT, RIGHT)))
        sums = np.lib.stride_tricks.sliding_window_view(padded, LEFT + RIGHT + 1, axis=-1).sum(-1)
        return state, (sums[..., None] * np.arange(1, HOP_LENGTH + 1)).reshape(len(sums), -1)

    # The last samples of a frame are known before the first ones of the next.
    return Network(
        in_units=1,
        out_units=HOP_LENGTH,
        context=(LEFT, RIGHT),
        determined=lambda frames: max((frames - RIGHT) * HOP_LENGTH - 2, 0),
        total=lambda frames: max(frames * HOP_LENGTH - 1, 0),
        run=run,
    )


def signal(length, batch=2):
    return np.random.default_rng(length).integers(-9, 9, (batch, length)).astype(float)


def cut(array, cuts):
    places = sorted({cut % (array.shape[-1] + 1) for cut in cuts})
    return np.split(array, places, axis=-1)


def run_over(windows, pieces):
    """All outputs of a whole signal."""
    return [*windows.fed(pieces), *windows.flush()]


def whole(network, array):
    """One window, of everything."""
    units = network.in_units
    missing = -array.shape[-1] % units
    padded = np.pad(array, ((0, 0), (0, missing)))
    lengths = np.full(len(array), array.shape[-1])
    _, result = network.run(None, Windows([0], 0, padded, lengths))
    return result[..., : network.total(array.shape[-1])]


NETWORKS = {
    "encoder": lambda: summing()[0],
    "encoder that takes lengths": lambda: summing(takes_lengths=True)[0],
    "encoder with a state": lambda: summing(takes_lengths=True, has_state=True)[0],
    "decoder": expanding,
}


@pytest.mark.parametrize("made", NETWORKS.values(), ids=NETWORKS)
@settings(deadline=None, max_examples=150)
@given(
    frames=st.integers(1, 120),
    rest=st.integers(0, HOP_LENGTH - 1),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    most=st.integers(1, 40),
    at_once=st.integers(1, 4),
    eager=st.booleans(),
)
def test_pieces_of_any_length_give_what_the_whole_gives(
    made, frames, rest, cuts, most, at_once, eager
):
    network = made()
    # A network that does not mind lengths is given whole frames.
    rest = rest if network.takes_lengths else 0
    array = signal(frames * network.in_units + rest)
    pieces = cut(array, cuts)
    given_out = run_over(Sliding(network, most, at_once, eager), pieces)
    np.testing.assert_array_equal(np.concatenate(given_out, axis=-1), whole(network, array))


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, 500), max_size=20), most=st.integers(1, 30))
def test_all_that_is_determined_is_given_out_at_once(cuts, most):
    network, _ = summing()
    windows = Sliding(network, most)
    received = given_out = 0
    for piece in cut(signal(500), cuts):
        received += piece.shape[-1]
        given_out += sum(part.shape[-1] for part in windows.push(piece))
        assert given_out == network.determined(received)


def test_windows_have_few_sizes_however_the_pieces_are_cut():
    network, seen = summing()
    windows = Sliding(network, most=64)
    for piece in cut(signal(20_000), range(0, 20_000, 37)):
        windows.push(piece)
    for piece in cut(signal(20_000), range(0, 20_000, 1234)):
        windows.push(piece)
    windows.flush()
    assert {one.inputs.shape[-1] // HOP_LENGTH - LEFT - RIGHT for one in seen} == {1, 4, 16, 64}


def test_windows_that_wait_have_one_size():
    network, seen = summing()
    windows = Sliding(network, most=64, eager=False)
    run_over(windows, cut(signal(20_000), range(0, 20_000, 37)))
    assert {one.inputs.shape for one in seen} == {(2, (64 + LEFT + RIGHT) * HOP_LENGTH)}


def test_some_windows_at_once_are_one_batch_that_is_always_as_large():
    network, seen = summing()
    windows = Sliding(network, most=10, at_once=3)
    run_over(windows, [signal(1000)])
    assert {len(one.inputs) for one in seen} == {3 * 2}
    assert [one.starts for one in seen][:2] == [[0, 8, 18], [28, 38, 48]]


def test_what_is_held_does_not_grow():
    network, _ = summing()
    windows = Sliding(network, most=16)
    held = set()
    for piece in cut(signal(100_000, batch=1), range(0, 100_000, 50)):
        windows.push(piece)
        held.add(windows._inputs.shape[-1])
    assert max(held) <= (16 + LEFT + RIGHT + 1) * HOP_LENGTH + 50


def test_nothing_at_all_gives_nothing():
    network, seen = summing()
    assert Sliding(network, most=4).flush() == []
    assert seen == []
