"""The arithmetic code: encodec's bytes, back to the same symbols, and nothing else accepted."""

import importlib
import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codax.errors import FormatError
from codax.formats.arithmetic_coding import (
    ArithmeticDecoder,
    ArithmeticEncoder,
    least_bits_per_symbol,
    quantized_cdf,
)
from tests.reference import peers

from .predictors import softmax

SHARPNESS = (0.0, 0.5, 3.0, 15.0, 200.0)
needs_encodec = pytest.mark.skipif(
    peers.missing_encodec() is not None, reason=str(peers.missing_encodec())
)


def random_cdfs(generator, steps, num_codebooks, num_symbols, sharpness):
    """-> int64 [steps, K, N]."""
    logits = generator.normal(0, sharpness, (steps, num_codebooks, num_symbols))
    return quantized_cdf(softmax(logits.astype(np.float32)))


def likely_symbols(generator, cdfs):
    """Symbols drawn from their probabilities, int32 [steps, K]."""
    counts = generator.integers(0, cdfs[..., -1:])
    return (cdfs <= counts).sum(axis=-1).astype(np.int32)


def encoded(symbols, cdfs):
    encoder = ArithmeticEncoder()
    for some, cumulative in zip(symbols, cdfs, strict=True):
        encoder.push(some, cumulative)
    return encoder.finish()


def decoded(content, cdfs, position=0):
    """-> symbols int32 [steps, K], the position behind their bytes."""
    decoder = ArithmeticDecoder(content, position)
    symbols = np.array([decoder.pull(cumulative) for cumulative in cdfs])
    return symbols, decoder.finish()


@st.composite
def streams(draw, any_sum=False):
    """Symbols int32 [steps, K], likely or not, and their cumulative counts.

    any_sum: also counts that rounding brought beyond 2^24; the last symbol may fail there.
    """
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(2, 1024)))
    cdfs = random_cdfs(generator, *shape, draw(st.sampled_from(SHARPNESS)))
    assume(any_sum or cdfs.max() <= 1 << 24)
    if draw(st.booleans()):
        return likely_symbols(generator, cdfs), cdfs
    return generator.integers(0, shape[2], shape[:2], np.int32), cdfs


# --- bytes ---------------------------------------------------------------------------------------

UNIFORM = quantized_cdf(np.full((5, 1024), 1 / 1024, np.float32))


def test_five_symbols_of_equal_probability_are_the_bytes_that_encodec_writes():
    content = encoded([np.array([0, 1, 2, 1023, 512])], [UNIFORM])
    assert content.hex() == "000008d07915500001"


def test_no_symbols_take_no_bytes():
    assert encoded([], []) == b""
    assert ArithmeticDecoder(b"").finish() == 0


@settings(deadline=None, max_examples=200)
@given(streams())
def test_decoding_gives_the_symbols_and_ends_where_their_bytes_end(stream):
    symbols, cdfs = stream
    content = encoded(symbols, cdfs)
    read, stop = decoded(b"\xff" + content + b"\xff\xff\xff\xff", cdfs, position=1)
    np.testing.assert_array_equal(read, symbols)
    assert stop == 1 + len(content)


def test_symbols_take_about_as_many_bits_as_they_surprise():
    generator = np.random.default_rng(0)
    cdfs = random_cdfs(generator, 500, 4, 1024, 3.0)
    symbols = likely_symbols(generator, cdfs)
    counts = np.diff(cdfs, prepend=0, axis=-1)
    surprise = -np.log2(np.take_along_axis(counts, symbols[..., None], -1) / 2**24).sum()
    assert 0 <= 8 * len(encoded(symbols, cdfs)) - surprise < 40


@pytest.mark.parametrize("num_symbols", [2, 1024])
def test_nothing_is_smaller_than_symbols_that_are_certain(num_symbols):
    certain = np.zeros((64, num_symbols), np.float32)
    certain[:, 0] = 1
    steps = 1000
    symbols = np.zeros((steps, 64), np.int32)
    content = encoded(symbols, [quantized_cdf(certain)] * steps)
    least = least_bits_per_symbol(num_symbols) * symbols.size
    assert least <= 8 * len(content) <= 1.01 * least + 40


# --- the original --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coder_of_encodec():
    if reason := peers.missing_encodec():
        pytest.skip(reason)
    peers.import_encodec()
    return importlib.import_module("encodec.quantization.ac")


@pytest.mark.parametrize("sharpness", SHARPNESS)
@pytest.mark.parametrize("num_symbols", [2, 3, 100, 1024, 2048])
def test_cumulative_counts_are_those_of_encodec_for_torchs_probabilities(
    coder_of_encodec, num_symbols, sharpness
):
    import torch

    generator = torch.Generator().manual_seed(num_symbols)
    logits = sharpness * torch.randn(200, num_symbols, generator=generator)
    probabilities = torch.softmax(logits, dim=1)
    ours = quantized_cdf(probabilities.numpy())
    for row, cumulative in zip(probabilities, ours, strict=True):
        theirs = coder_of_encodec.build_stable_quantized_cdf(row, 24, check=False)
        np.testing.assert_array_equal(cumulative, theirs.numpy())


@needs_encodec
@settings(deadline=None, max_examples=60)
@given(streams(any_sum=True))
def test_bytes_and_symbols_are_those_of_encodecs_own_coder(stream):
    import torch

    peers.import_encodec()
    theirs = importlib.import_module("encodec.quantization.ac")
    symbols, cdfs = stream
    rows = torch.from_numpy(cdfs.reshape(-1, cdfs.shape[-1]))
    file = io.BytesIO()
    coder = theirs.ArithmeticCoder(file)
    try:
        for symbol, row in zip(symbols.ravel(), rows, strict=True):
            coder.push(int(symbol), row)
    except AssertionError:
        with pytest.raises(FormatError, match="cannot be written in this arithmetic code"):
            encoded(symbols, cdfs)
        return
    coder.flush()
    try:
        content = encoded(symbols, cdfs)
    except FormatError:
        assert is_beyond_its_interval(symbols, cdfs)
        return
    assert content == file.getvalue()

    file.seek(0)
    decoder = theirs.ArithmeticDecoder(file)
    assert [decoder.pull(row) for row in rows] == symbols.ravel().tolist()
    assert file.tell() == len(file.getvalue())


def is_beyond_its_interval(symbols, cdfs):
    """Whether a symbol was coded whose share ends beyond 2^24, of which there are no more."""
    stops = np.take_along_axis(cdfs, symbols[..., None], axis=-1)
    return (stops > 1 << 24).any()


def test_a_share_that_rounding_took_beyond_the_interval_is_refused():
    """`encodec` writes these symbols, and reads others or none."""
    beyond = np.array([[[2, 16777013, 16777217]]])
    with pytest.raises(FormatError, match="cannot be written in this arithmetic code"):
        encoded(np.array([[2]]), beyond)
    assert decoded(encoded(np.array([[1]]), beyond), beyond)[0] == 1


# --- what is refused -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(streams(), st.data())
def test_what_decodes_is_what_encoding_the_symbols_gives(stream, data):
    """So no file is taken that an encoder with the same probabilities would not have written."""
    symbols, cdfs = stream
    content = bytearray(encoded(symbols, cdfs))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    content += data.draw(st.binary(max_size=6))
    try:
        read, stop = decoded(bytes(content), cdfs)
    except FormatError:
        return
    assert encoded(read, cdfs) == content[:stop]


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=20), st.integers(0, 99), st.sampled_from(SHARPNESS))
def test_any_bytes_are_refused_or_decoded(content, seed, sharpness):
    cdfs = random_cdfs(np.random.default_rng(seed), 4, 2, 64, sharpness)
    try:
        symbols, stop = decoded(content, cdfs)
    except FormatError:
        return
    assert encoded(symbols, cdfs) == content[:stop]


def test_a_stream_cut_short_is_refused():
    symbols = np.array([[0, 1, 2, 1023, 512]])
    content = encoded(symbols, [UNIFORM])
    for length in range(len(content)):
        with pytest.raises(FormatError, match="the file ends before its codes do: it is damaged"):
            decoded(content[:length], [UNIFORM])


def test_probabilities_that_differ_a_little_are_found_out():
    """Every one of 300 streams, which a wrong end alone would let through now and then."""
    generator = np.random.default_rng(0)
    for _ in range(300):
        logits = generator.normal(0, 2, (20, 2, 1024)).astype(np.float32)
        cdfs = quantized_cdf(softmax(logits))
        content = encoded(likely_symbols(generator, cdfs), cdfs)
        logits[10] += generator.normal(0, 1e-5, (2, 1024)).astype(np.float32)
        with pytest.raises(FormatError, match="did not repeat bit for bit"):
            decoded(content, quantized_cdf(softmax(logits)))


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, np.nan, np.inf])
def test_numbers_that_are_no_probabilities_are_refused(value):
    with pytest.raises(ValueError, match="probabilities hold values outside 0 to 1, or NaN"):
        quantized_cdf(np.array([[0.5, value]], np.float32))


def test_probabilities_of_another_precision_are_refused():
    with pytest.raises(ValueError, match="probabilities are float64, allowed: float32"):
        quantized_cdf(np.full((1, 4), 0.25))


def test_probabilities_that_add_up_to_more_than_1_are_refused():
    with pytest.raises(ValueError, match="probabilities add up to more than 1"):
        quantized_cdf(np.full((2, 3), 0.5, np.float32))


def test_a_share_that_rounding_put_beyond_the_interval_is_refused_as_encodec_does():
    cumulative = np.array([[1 << 23, (1 << 24) + 1]])
    with pytest.raises(FormatError, match="cannot be written in this arithmetic code"):
        ArithmeticEncoder().push(np.array([1]), cumulative)


def middle_symbols(steps):
    """Of three, each has the middle half of the interval, whose middle stays where it was."""
    cumulative = np.array([[1 << 22, 3 << 22, 1 << 24]])
    return np.ones((steps, 1), np.int32), [cumulative] * steps


def test_bits_that_stay_open_for_long_are_refused_as_encodec_does():
    symbols, cdfs = middle_symbols(39)
    np.testing.assert_array_equal(decoded(encoded(symbols, cdfs), cdfs)[0], symbols)
    with pytest.raises(FormatError, match="cannot be written in this arithmetic code"):
        encoded(*middle_symbols(40))
    middle = b"\x01" + bytes(20)
    with pytest.raises(FormatError, match="the file has bits that stand for no code"):
        decoded(middle, middle_symbols(40)[1])
