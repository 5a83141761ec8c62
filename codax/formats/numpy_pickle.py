"""Read the one Python object in an `np.save`d file without unpickling it.

A pickle is a program: unpickling runs it, and it may call anything. Limiting what it may call is
not enough: with `pickle.Unpickler` a short file can still set attributes on what it is given,
allocate gigabytes for one memo index, or hash a tuple that holds another one twice, which does the
same, and so on, in 2^n steps. So nothing of the file is run here. A stack machine follows the two
dozen opcodes that make up numpy's pickle of a dict of arrays and writes down the calls that they
ask for as `RecordedCall` values; `recorded_array` checks one and builds the array from its bytes.
"""

import dataclasses
import enum
import io
import math
import pickletools
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.lib import format as npy

from codax.errors import FormatError
from codax.formats.field_checks import SHOWN_CHARACTERS, shown

MAX_HEADER_BYTES = 512
"""numpy writes 118 bytes for a 0-d object array."""

MAX_OPCODES = 1000
"""numpy's pickle of a `.dac` file's dict has about 150."""

MAX_DIMENSIONS = 3

_Kind = TypeVar("_Kind")


class NumpyName(enum.Enum):
    """The three globals that a pickled numpy array asks for."""

    RECONSTRUCT = enum.auto()
    NDARRAY = enum.auto()
    DTYPE = enum.auto()


_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): NumpyName.RECONSTRUCT,  # numpy 1
    ("numpy._core.multiarray", "_reconstruct"): NumpyName.RECONSTRUCT,  # numpy 2
    ("numpy", "ndarray"): NumpyName.NDARRAY,
    ("numpy", "dtype"): NumpyName.DTYPE,
}

# Version 3 differs from 2 only in the encoding of field names, and an object array has no fields.
_HEADER_READERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): npy.read_array_header_2_0,
}

_DTYPES = {("|", code): np.dtype(code) for code in ("i1", "u1")} | {
    (order, code): np.dtype(order + code)
    for order in "<>"
    for code in ("i2", "i4", "i8", "u2", "u4", "u8", "f4", "f8")
}


@dataclasses.dataclass(eq=False, slots=True)
class RecordedCall:
    """A call that the file asks for, written down and never made."""

    function: NumpyName
    arguments: tuple
    state: Any = None


def read_pickled_npy(content: bytes) -> Any:
    """The object in a file written by `np.save(file, object)`.

    It consists of str, bytes, int, float, bool, None, and of tuples, lists and str-keyed dicts of
    these, shared or cyclic ones included; every numpy array in it is a `RecordedCall` (see
    `recorded_array`).

    Raises `FormatError` for everything that numpy would not have written.
    """
    stream = io.BytesIO(content)
    try:
        _read_header(stream)
        recorded = _PickleMachine().run(stream)
    except FormatError:
        raise
    except Exception as error:  # what a damaged header or pickle raises is not bounded by any list
        reason = " ".join(str(error).split())[: 2 * SHOWN_CHARACTERS]
        raise FormatError(
            f"damaged or of another kind: {type(error).__name__}: {reason}"
        ) from error
    if trailing := len(content) - stream.tell():
        raise FormatError(f"{trailing} bytes follow the end of the pickle, allowed: none")
    return _only_item(recorded)


def recorded_array(recorded: Any, name: str) -> np.ndarray:
    """Build the array that `recorded` describes, a read-only view of its bytes in the file.

    Raises `FormatError`, beginning with `name`, unless it is an array of integers or floats of up
    to three dimensions, none of them 0, with as many bytes as its shape needs.
    """
    match recorded:
        case RecordedCall(
            NumpyName.RECONSTRUCT,
            (NumpyName.NDARRAY, (0,), b"b"),
            (1, tuple(shape), RecordedCall() as dtype, bool(fortran), bytes(content)),
        ):
            order = "F" if fortran else "C"
            dtype = _recorded_dtype(dtype, name)
            _check_shape(shape, dtype, len(content), name)
            return np.frombuffer(content, dtype).reshape(shape, order=order)
    raise FormatError(f"{name} is {shown(recorded)}, allowed: an array of numbers")


def _read_header(stream: BinaryIO) -> None:
    """Leave `stream` behind the `.npy` header of a 0-d object array; refuse any other."""
    version = npy.read_magic(stream)
    if version not in _HEADER_READERS:
        raise FormatError(f"is .npy version {version[0]}.{version[1]}, allowed: 1.0, 2.0 or 3.0")
    shape, _, dtype = _HEADER_READERS[version](stream, max_header_size=MAX_HEADER_BYTES)
    if dtype != np.dtype(object) or shape != ():
        raise FormatError(
            f"holds an array of {dtype} with {len(shape)} dimensions, "
            "allowed: one pickled object (dtype object, no dimensions)"
        )


class _PickleMachine:
    """Follows the opcodes of one pickle; what they ask for happens only on its own stack."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The object that the pickle describes; `stream` is left behind its last opcode."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == MAX_OPCODES:
                raise FormatError(f"the pickle has over {MAX_OPCODES} opcodes, allowed: fewer")
            self._step(opcode.name, argument)
        (result,) = self.stack
        return result

    def _step(self, opcode: str, argument: Any) -> None:
        match opcode:
            case "PROTO":
                if not 2 <= argument <= 5:
                    raise FormatError(f"the pickle has protocol {argument}, allowed: 2 to 5")
            case "FRAME" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                self.stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                self.stack.append(argument)
            case "NONE":
                self.stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                self.stack.append(opcode == "NEWTRUE")
            case "MARK":
                self.below_marks.append(self.stack)
                self.stack = []
            case "EMPTY_TUPLE":
                self.stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple(self._pop(int(opcode[-1]))))
            case "TUPLE":
                values = self._pop_to_mark()
                self.stack.append(tuple(values))
            case _:
                self._step_with_object(opcode, argument)

    def _step_with_object(self, opcode: str, argument: Any) -> None:
        match opcode:
            case "EMPTY_LIST":
                self.stack.append([])
            case "APPEND":
                self._extend(self._pop(1))
            case "APPENDS":
                self._extend(self._pop_to_mark())
            case "EMPTY_DICT":
                self.stack.append({})
            case "SETITEM":
                self._update(self._pop(2))
            case "SETITEMS":
                self._update(self._pop_to_mark())
            case _:
                self._step_with_name(opcode, argument)

    def _step_with_name(self, opcode: str, argument: Any) -> None:
        match opcode:
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self.stack.append(_known_name(*argument.split(" ")))
            case "STACK_GLOBAL":
                self.stack.append(_known_name(*self._pop(2)))
            case "REDUCE":
                function, arguments = self._pop(2)
                call = RecordedCall(_expect(function, NumpyName), _expect(arguments, tuple))
                self.stack.append(call)
            case "BUILD":
                (state,) = self._pop(1)
                _expect(self.stack[-1], RecordedCall).state = state
            case _:
                raise FormatError(
                    f"the pickle uses opcode {opcode}, allowed: those that numpy writes "
                    "for a dict of arrays"
                )

    def _pop(self, count: int) -> list[Any]:
        """The top `count` values, lowest first."""
        if count > len(self.stack):
            raise FormatError("damaged: the pickle takes more values than it has")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        """The values above the last mark, lowest first; `self.stack` is then the one below it."""
        values = self.stack
        self.stack = self.below_marks.pop()
        return values

    def _extend(self, values: list[Any]) -> None:
        _expect(self.stack[-1], list).extend(values)

    def _update(self, keys_and_values: list[Any]) -> None:
        target = _expect(self.stack[-1], dict)
        for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
            # Only str: a tuple that holds another one twice, and so on, takes 2^n steps to hash.
            target[_expect(key, str)] = value


def _known_name(module: Any, name: Any) -> NumpyName:
    known = _GLOBALS.get((_expect(module, str), _expect(name, str)))
    if known is None:
        raise FormatError(
            f"asks for {shown(f'{module}.{name}')}, allowed: numpy's _reconstruct, ndarray and "
            "dtype; a file that asks for more may be hostile"
        )
    return known


def _expect(value: Any, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise FormatError(f"damaged: the pickle has {shown(value)} in place of a {kind.__name__}")
    return value


def _only_item(recorded: Any) -> Any:
    """What the 0-d object array holds. numpy pickles its elements as a list."""
    match recorded:
        case RecordedCall(
            NumpyName.RECONSTRUCT,
            (NumpyName.NDARRAY, (0,), b"b"),
            (1, (), RecordedCall() as dtype, bool(), [item]),
        ) if _is_object_dtype(dtype):
            return item
    raise FormatError(f"holds {shown(recorded)}, allowed: one object in a numpy array")


def _is_object_dtype(recorded: RecordedCall) -> bool:
    match recorded:
        case RecordedCall(
            NumpyName.DTYPE,
            ("O4" | "O8", *_),  # O4 where Python has 32 bits
            (3, "|", None, None, None, -1, -1, 63),
        ):
            return True
    return False


def _recorded_dtype(recorded: RecordedCall, name: str) -> np.dtype:
    match recorded:
        case RecordedCall(
            NumpyName.DTYPE,
            (str(code), *_),
            (3, str(order), None, None, None, -1, -1, 0),
        ) if (order, code) in _DTYPES:
            return _DTYPES[order, code]
        case RecordedCall(_, (str(code), *_)):
            raise FormatError(f"{name} is an array of {shown(code)}, allowed: plain numbers")
    raise FormatError(f"{name} is an array of an unknown type, allowed: plain numbers")


def _check_shape(shape: tuple, dtype: np.dtype, num_bytes: int, name: str) -> None:
    if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and n > 0 for n in shape):
        lengths = ", ".join(map(shown, shape[: MAX_DIMENSIONS + 1]))
        raise FormatError(
            f"{name} has shape ({lengths}), allowed: up to {MAX_DIMENSIONS} positive integers"
        )
    needed = math.prod(shape) * dtype.itemsize
    if needed != num_bytes:
        lengths = ", ".join(map(shown, shape))
        raise FormatError(
            f"{name} has shape ({lengths}) and {num_bytes} bytes, allowed: {shown(needed)} bytes"
        )
