"""Codes of any number of bits side by side in bytes, the least significant bit first.

    code 0: a9 ... a1 a0    code 1: b9 ... b1 b0                     (here of 10 bits)

    byte 0: a7 a6 a5 a4 a3 a2 a1 a0     byte 1: b5 b4 b3 b2 b1 b0 a9 a8     byte 2: ... b7 b6

What the last byte has left is zero. This is the order of facebookresearch/encodec, binary.py, and
of `numpy.packbits(bitorder="little")`.
"""

import numpy as np

from codax.errors import FormatError

MAX_BITS = 31
"""Codes are int32."""

MAX_CODES = 1 << 29
"""2 GiB of int32: as many as the largest `.dac` file holds, in a fraction of its bytes."""

# Codes at a time: their single bits take a byte each. A multiple of 8, so blocks end with a byte.
_BLOCK_CODES = 1 << 15


def packed_length(num_codes: int, bits: int) -> int:
    """Bytes that `num_codes` codes take."""
    return -(-num_codes * bits // 8)


def bits_of(codebook_size: int) -> int:
    """Bits that tell the entries of a codebook apart, at least one."""
    return max(1, (codebook_size - 1).bit_length())


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
    """Codes int32 [M], none negative -> ceil(M * bits / 8) bytes.

    Raises `FormatError` for a code that `bits` do not hold.
    """
    largest = int(codes.max(initial=0))
    if largest >> bits:
        raise FormatError(f"codes reach {largest}, allowed: 0 to {(1 << bits) - 1}")
    positions = np.arange(bits, dtype=np.int32)
    packed = bytearray()
    for start in range(0, len(codes), _BLOCK_CODES):
        block = codes[start : start + _BLOCK_CODES, None] >> positions & 1
        packed += np.packbits(block.astype(np.uint8), bitorder="little").tobytes()
    return bytes(packed)


def unpack_codes(content: bytes, num_codes: int, bits: int) -> np.ndarray:
    """What `pack_codes` made -> codes int32 [M].

    Raises `FormatError` unless `content` has the length of so many codes and zeros behind them.
    """
    check_num_codes(num_codes)
    needed = packed_length(num_codes, bits)
    if len(content) != needed:
        raise FormatError(f"{num_codes} codes have {len(content)} bytes, allowed: {needed}")
    used = num_codes * bits % 8
    if used and content[-1] >> used:
        raise FormatError(f"the last byte of the codes is {content[-1]:#x}, allowed: {used} bits")
    values = (1 << np.arange(bits)).astype(np.int32)
    packed = np.frombuffer(content, np.uint8)
    codes = np.empty(num_codes, np.int32)
    for start in range(0, num_codes, _BLOCK_CODES):
        block = codes[start : start + _BLOCK_CODES]
        first = start * bits // 8
        block_bytes = packed[first : first + packed_length(len(block), bits)]
        single = np.unpackbits(block_bytes, count=len(block) * bits, bitorder="little")
        block[:] = single.reshape(-1, bits) @ values
    return codes


def check_num_codes(num_codes: int) -> None:
    """Raise `FormatError` for more codes than memory is to be spent on."""
    if num_codes > MAX_CODES:
        raise FormatError(f"holds {num_codes} codes, allowed: up to {MAX_CODES}")
