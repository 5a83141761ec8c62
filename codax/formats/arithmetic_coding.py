"""The arithmetic code of `.ecdc` files with a language model, bit for bit that of `encodec`.

An interval of integers [low, high] stands for everything coded so far. To code a symbol it is made
at least 2^24 wide, by appending bits to both ends (0 to low, 1 to high), and is then narrowed to
the symbol's share of it, given by cumulative counts of 2^24:

    cumulative     0 ...... start ......... stop ...... 2^24
    interval       low ....[new low, new high]......... high

The leading bits that low and high have in common never change again: they are written, and taken
off both. The reader follows the same interval, and a number in it, `current`, the bits of the file:
the share that `current` lies in is the symbol. It reads a bit for each that the writer appended, so
it stops exactly where the writer did, and there `current` is low, since low is what the writer
leaves behind. Source: facebookresearch/encodec, quantization/ac.py, which computes the shares in
float64; its factors have at most 25 bits each, so the integers here are the same numbers.
"""

import numpy as np

from codax.errors import FormatError

RANGE_BITS = 24
LEAST_COUNT = 2
"""Of 2^24 that each symbol gets, however unlikely: its share must hold an integer."""

MOST_PENDING_BITS = 62
"""`encodec` stops with an error where low and high differ in their first bit for longer."""

# Counts may add up to more than 2^24: the probabilities, and the products with them, are rounded.
_MOST_EXCESS = 1 << 8

# encodec rounds probabilities off so that small differences between machines may vanish.
_ROUNDOFF = np.float32(1e-8)

_MIRRORED_BYTES = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class AstrayError(FormatError):
    """Codes that cannot have been written with the given probabilities."""


def astray(what: str) -> AstrayError:
    """The error for `what` shows that."""
    return AstrayError(
        f"{what}: it is damaged, or the language model's probabilities did not repeat bit for bit "
        "what they were when it was written; nothing in it can be trusted"
    )


def quantized_cdf(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities float32 [..., N] -> cumulative counts int64 [..., N] of about 2^24.

    Entry n is where the share of symbol n ends and that of n + 1 begins. All arithmetic on
    probabilities is float32, step by step as in `encodec`, `build_stable_quantized_cdf`.

    Raises `ValueError` for another type, values outside 0 to 1, or a sum beyond 1.
    """
    if probabilities.dtype != np.float32:
        raise ValueError(f"probabilities are {probabilities.dtype}, allowed: float32")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities hold values outside 0 to 1, or NaN")
    to_share_out = np.float32((1 << RANGE_BITS) - LEAST_COUNT * probabilities.shape[-1])
    rounded = np.floor(probabilities / _ROUNDOFF) * _ROUNDOFF
    counts = np.floor(to_share_out * rounded).astype(np.int64) + LEAST_COUNT
    cumulative = counts.cumsum(axis=-1)
    if (cumulative[..., -1] > (1 << RANGE_BITS) + _MOST_EXCESS).any():
        raise ValueError("probabilities add up to more than 1")
    return cumulative


def least_bits_per_symbol(num_symbols: int) -> float:
    """What even the most probable of `num_symbols` symbols narrows the interval by.

    It bounds how many symbols a number of bytes can hold.
    """
    largest_share = 1 - LEAST_COUNT * (num_symbols - 1) / (1 << RANGE_BITS)
    return float(-np.log2(largest_share))


class ArithmeticEncoder:
    """Codes the symbols that `push` gets; `finish` gives the bytes."""

    def __init__(self) -> None:
        self._interval = _Interval()
        self._written = bytearray()
        self._bits = 0  # written, but no whole byte yet
        self._num_bits = 0

    def push(self, symbols: np.ndarray, cumulative: np.ndarray) -> None:
        """Code K symbols, int [K], with the `quantized_cdf` of each, int64 [K, N].

        Raises `FormatError` where `encodec` fails too: in one of 2^37 cases or so; and where
        rounding gave the last symbol a share that reaches beyond the interval, of which `encodec`
        writes what it may not be able to read.
        """
        each = np.arange(len(symbols))
        stops = cumulative[each, symbols]
        starts = np.where(symbols > 0, cumulative[each, symbols - 1], 0)
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            self._interval.append_bits(self._interval.missing_bits())
            highest = self._interval.high
            self._interval.narrow(start, stop)
            if not self._interval.is_codable or self._interval.high > highest:
                raise FormatError("the codes cannot be written in this arithmetic code")
            self._write(*self._interval.take_common_prefix())

    def finish(self) -> bytes:
        """All that was coded, to a whole byte."""
        self._write(self._interval.low, self._interval.num_bits)
        self._write(0, -self._num_bits % 8)
        return bytes(self._written).translate(_MIRRORED_BYTES)

    def _write(self, bits: int, num_bits: int) -> None:
        """Bits go out most significant first, and fill bytes from the least significant bit."""
        self._bits = self._bits << num_bits | bits
        self._num_bits += num_bits
        rest = self._num_bits % 8
        self._written += (self._bits >> rest).to_bytes(self._num_bits // 8, "big")
        self._bits &= (1 << rest) - 1
        self._num_bits = rest


class ArithmeticDecoder:
    """Decodes what an `ArithmeticEncoder` made, from `content` at byte `position` on.

    What follows it in `content` is not looked at. `pull` and `finish` raise `FormatError` for bytes
    that no encoder with the same probabilities makes.
    """

    def __init__(self, content: bytes, position: int = 0) -> None:
        self._interval = _Interval()
        self._current = 0
        self._content = content
        self._bit_position = 8 * position

    def pull(self, cumulative: np.ndarray) -> np.ndarray:
        """The next K symbols, int32 [K], given the `quantized_cdf` of each, int64 [K, N]."""
        return np.array([self._pull_one(one) for one in cumulative], np.int32)

    def finish(self) -> int:
        """The position of the byte after the code, once all symbols are pulled.

        Passing means that coding the symbols again would give the same bytes: the bits before the
        last ones are those that low and high had in common, the last ones must be low itself, and
        the rest of their byte zero.
        """
        filling = self._read_bits(-self._bit_position % 8)
        if self._current != self._interval.low or filling:
            raise astray("the file's codes do not end as they would have been written")
        return self._bit_position // 8

    def _pull_one(self, cumulative: np.ndarray) -> int:
        interval = self._interval
        missing = interval.missing_bits()
        self._current = self._current << missing | self._read_bits(missing)
        interval.append_bits(missing)
        # Shares are rounded to integers, so there are some between two shares, and after the last.
        target = ((self._current - interval.low) << RANGE_BITS) // interval.width
        symbol = int(cumulative.searchsorted(target, side="right"))
        if symbol == len(cumulative):
            raise astray("the file has bits that stand for no code")
        start = int(cumulative[symbol - 1]) if symbol else 0
        interval.narrow(start, int(cumulative[symbol]))
        if self._current > interval.high or not interval.is_codable:
            raise astray("the file has bits that stand for no code")
        interval.take_common_prefix()
        self._current &= (1 << interval.num_bits) - 1
        return symbol

    def _read_bits(self, num_bits: int) -> int:
        stop = self._bit_position + num_bits
        if stop > 8 * len(self._content):
            raise astray("the file ends before its codes do")
        some = self._content[self._bit_position // 8 : (stop + 7) // 8].translate(_MIRRORED_BYTES)
        self._bit_position = stop
        return int.from_bytes(some, "big") >> -stop % 8 & ((1 << num_bits) - 1)


class _Interval:
    """The integers from `low` to `high`, of which `num_bits` bits are not settled."""

    def __init__(self) -> None:
        self.low = self.high = self.num_bits = 0

    @property
    def width(self) -> int:
        return self.high - self.low + 1

    @property
    def is_codable(self) -> bool:
        """Whether the interval is one that `encodec` goes on with."""
        differing_bits = (self.low ^ self.high).bit_length()
        return differing_bits <= min(self.num_bits, MOST_PENDING_BITS)

    def missing_bits(self) -> int:
        """Bits to append until the interval is 2^24 wide; it is less than 2^25 wide then."""
        return max(0, RANGE_BITS + 1 - self.width.bit_length())

    def append_bits(self, count: int) -> None:
        self.low <<= count
        self.high = ((self.high + 1) << count) - 1
        self.num_bits += count

    def narrow(self, start: int, stop: int) -> None:
        """To the integers that lie between start and stop - 1 of 2^24 parts, both included."""
        low, width = self.low, self.width
        self.low = low + -(-start * width >> RANGE_BITS)
        self.high = low + ((stop - 1) * width >> RANGE_BITS)

    def take_common_prefix(self) -> tuple[int, int]:
        """Take the leading bits that low and high share off both -> (bits, how many)."""
        kept = (self.low ^ self.high).bit_length()
        prefix, count = self.low >> kept, self.num_bits - kept
        self.low &= (1 << kept) - 1
        self.high &= (1 << kept) - 1
        self.num_bits = kept
        return prefix, count
