"""Codes of any width become bytes and come back."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codax.errors import FormatError
from codax.formats import bit_packing
from codax.formats.bit_packing import bits_of, pack_codes, packed_length, unpack_codes
from tests.reference import peers


@st.composite
def codes_and_bits(draw):
    bits = draw(st.integers(1, 31))
    codes = draw(st.lists(st.integers(0, 2**bits - 1), max_size=100))
    return np.array(codes, np.int32), bits


def test_three_codes_of_10_bits_are_the_bytes_that_encodec_writes():
    assert pack_codes(np.array([1, 2, 1023], np.int32), 10).hex() == "0108f03f"


@settings(deadline=None)
@given(codes_and_bits())
def test_packed_codes_are_the_digits_of_one_long_little_endian_number(given_codes):
    codes, bits = given_codes
    number = sum(int(code) << bits * place for place, code in enumerate(codes))
    assert pack_codes(codes, bits) == number.to_bytes(packed_length(len(codes), bits), "little")


@settings(deadline=None)
@given(codes_and_bits())
def test_unpacked_codes_are_those_that_were_packed(given_codes):
    codes, bits = given_codes
    unpacked = unpack_codes(pack_codes(codes, bits), len(codes), bits)
    assert unpacked.dtype == np.int32
    np.testing.assert_array_equal(unpacked, codes)


@pytest.mark.parametrize("bits", [1, 3, 10, 31])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_codes_beyond_one_block_are_packed_as_in_one(monkeypatch, bits, extra):
    codes = np.random.default_rng(0).integers(0, 2**bits, 48 + extra, np.int32)
    packed = pack_codes(codes, bits)
    monkeypatch.setattr(bit_packing, "_BLOCK_CODES", 16)
    assert pack_codes(codes, bits) == packed
    np.testing.assert_array_equal(unpack_codes(packed, len(codes), bits), codes)


@pytest.mark.parametrize(
    ("size", "bits"), [(1, 1), (2, 1), (3, 2), (1000, 10), (1024, 10), (1025, 11)]
)
def test_a_codebook_takes_the_bits_that_tell_its_entries_apart(size, bits):
    assert bits_of(size) == bits


def test_a_code_that_needs_more_bits_is_refused():
    with pytest.raises(FormatError, match="codes reach 1024, allowed: 0 to 1023"):
        pack_codes(np.array([3, 1024], np.int32), 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01\x08\xf0", "3 codes have 3 bytes, allowed: 4"),
        (b"\x01\x08\xf0\x3f\x00", "3 codes have 5 bytes, allowed: 4"),
        (b"\x01\x08\xf0\x7f", "the last byte of the codes is 0x7f, allowed: 6 bits"),
    ],
)
def test_bytes_that_packing_does_not_make_are_refused(content, message):
    with pytest.raises(FormatError, match=message):
        unpack_codes(content, 3, 10)


def test_more_codes_than_memory_is_meant_for_are_refused_before_they_are_allocated():
    with pytest.raises(FormatError, match="holds 536870913 codes, allowed: up to 536870912"):
        unpack_codes(b"", 2**29 + 1, 1)


@pytest.mark.skipif(peers.missing_encodec() is not None, reason=str(peers.missing_encodec()))
@settings(deadline=None)
@given(codes_and_bits())
def test_packed_codes_are_those_of_encodecs_own_packer(given_codes):
    codes, bits = given_codes
    file = io.BytesIO()
    packer = peers.import_encodec().binary.BitPacker(bits, file)
    for code in codes.tolist():
        packer.push(code)
    packer.flush()
    assert pack_codes(codes, bits) == file.getvalue()
