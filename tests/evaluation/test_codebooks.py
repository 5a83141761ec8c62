"""What codes tell of the codebooks that they index."""

import numpy as np
import pytest

from codax.evaluation.codebooks import CodeCounts


def counted(codes, size):
    counts = CodeCounts(np.shape(codes)[-2], size)
    counts.add(np.array(codes))
    return counts


def test_codewords_used_evenly_fill_the_bitrate():
    use = counted([np.arange(16), np.arange(16)[::-1]], 16).use()
    assert use.used == (1.0, 1.0)
    np.testing.assert_allclose(use.entropy_bits, 4)
    np.testing.assert_allclose(use.perplexity, 16)
    assert use.efficiency == pytest.approx(1)
    assert use.frames == 16


def test_one_codeword_says_nothing():
    use = counted([[3, 3, 3, 3]], 8).use()
    assert use.used == (1 / 8,)
    assert use.entropy_bits == (0.0,)
    assert (use.perplexity, use.efficiency) == ((1.0,), 0.0)


def test_entropy_is_that_of_the_shares():
    use = counted([[0, 0, 1, 2]], 4).use()
    assert use.entropy_bits[0] == pytest.approx(1.5)  # 1/2 log 2 + 2/4 log 4
    assert use.efficiency == pytest.approx(0.75)
    assert use.used == (0.75,)


def test_many_clips_count_as_one():
    codes = np.random.default_rng(0).integers(0, 10, (2, 3, 50))
    counts = CodeCounts(3, 10)
    counts.add(codes[0])
    counts.add(codes[1, :, :20])
    counts.add(codes[1:, :, 20:])
    whole = counted(np.concatenate(list(codes), axis=-1), 10)
    np.testing.assert_array_equal(counts.counts, whole.counts)
    assert counts.use() == counted(codes, 10).use()


def test_fewer_codebooks_are_the_first_ones():
    counts = counted([[0, 1], [0, 0]], 2)
    assert counts.use(1).efficiency == 1
    assert counts.use().efficiency == 0.5
    assert counts.use().used[:1] == counts.use(1).used


@pytest.mark.parametrize("codes", [[[8]], [[-1]]])
def test_codes_outside_the_codebook_are_refused_by_value(codes):
    with pytest.raises(ValueError, match=f"from 0 to 7; got {codes[0][0]}"):
        counted(codes, 8)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: CodeCounts(0, 8), "got 0 and 8"),
        (lambda: CodeCounts(1, 8).use(), "no codes were counted"),
        (lambda: counted([[1]], 8).use(2), "num_codebooks=2 must be from 1 to 1"),
        (lambda: CodeCounts(2, 8).add(np.zeros((3, 4), int)), r"\[..., 2, F\]; got shape \(3, 4\)"),
    ],
)
def test_what_cannot_be_counted_is_refused_by_value(use, message):
    with pytest.raises(ValueError, match=message):
        use()
