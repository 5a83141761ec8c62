"""Read the one Python object in an `np.save`d file without unpickling it.

A pickle is a program: unpickling runs it, and it may call anything. Even with the callables limited,
`pickle.Unpickler` lets a short file set attributes on them, allocate gigabytes for a memo index or
hash tuples that refer to themselves 2^n times. So nothing of the file is run here. A stack machine
follows the two dozen opcodes that numpy's pickle of a dict of arrays consists of, and writes down
the calls that it asks for as `Recorded` values; `recorded_array` checks one of those and builds the
array from its bytes. What an opcode costs is bounded by the size of the file, and so is their number.
"""

import dataclasses
import enum
import io
import math
import pickletools
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from codax.errors import FormatError

MAX_HEADER_BYTES = 512
"""numpy writes 118 bytes for a 0-d object array."""

MAX_OPCODES = 1000
"""numpy's pickle of a `.dac` file's dict has about 150."""

MAX_DIMENSIONS = 3

_SHOWN_CHARACTERS = 60


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

_DTYPES = {("|", code): np.dtype(code) for code in ("i1", "u1")} | {
    (order, code): np.dtype(order + code)
    for order in "<>"
    for code in ("i2", "i4", "i8", "u2", "u4", "u8", "f4", "f8")
}


@dataclasses.dataclass(eq=False, slots=True)
class Recorded:
    """A call that the file asks for, written down and never made."""

    function: NumpyName
    arguments: tuple
    state: Any = None


def read_pickled_npy(content: bytes) -> Any:
    """The object in a file written by `np.save(file, object)`.

    It consists of str, bytes, int, float, bool, None, and of tuples, lists and str-keyed dicts of
    these, shared or cyclic ones included; every numpy array in it is a `Recorded` (see
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
        reason = " ".join(str(error).split())[: 2 * _SHOWN_CHARACTERS]
        raise FormatError(f"damaged: {type(error).__name__}: {reason}") from error
    if trailing := len(content) - stream.tell():
        raise FormatError(f"{trailing} bytes follow the end of the pickle, allowed: none")
    return _only_item(recorded)


def recorded_array(recorded: Any, name: str) -> np.ndarray:
    """Build the array that `recorded` describes, a read-only view of its bytes in the file.

    Raises `FormatError`, beginning with `name`, unless it is an array of integers or floats of up
    to three dimensions, none of them 0, with as many bytes as its shape needs.
    """
    match recorded:
        case Recorded(
            NumpyName.RECONSTRUCT,
            (NumpyName.NDARRAY, *_),
            (1, tuple(shape), Recorded() as dtype, bool(fortran), bytes(content)),
        ):
            order = "F" if fortran else "C"
            dtype = _recorded_dtype(dtype, name)
            _check_shape(shape, dtype, len(content), name)
            return np.frombuffer(content, dtype).reshape(shape, order=order)
    raise FormatError(f"{name} is {shown(recorded)}, allowed: an array of numbers")


def shown(value: object) -> str:
    """`value` for an error message: one short line, cheap to make whatever the file holds."""
    if isinstance(value, str | bytes):
        value = value[: _SHOWN_CHARACTERS + 1]
    elif value is not None and not isinstance(value, int | float):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _read_header(stream: BinaryIO) -> None:
    """Leave `stream` behind the `.npy` header of a 0-d object array; refuse any other."""
    version = npy.read_magic(stream)
    # Version 3 differs from 2 only in the encoding of field names, and here are no fields.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream, max_header_size=MAX_HEADER_BYTES)
    if dtype != np.dtype(object) or shape != ():
        raise FormatError(
            f"holds an array of {dtype} with {len(shape)} dimensions, "
            "allowed: one pickled object (dtype object, no dimensions)"
        )


class _PickleMachine:
    """Follows the opcodes of one pickle; does what they say only to its own stack."""

    IGNORED = frozenset({"PROTO", "FRAME"})
    CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}  # noqa: RUF012
    LITERALS = frozenset(
        {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
        | {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
    )
    TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}  # noqa: RUF012

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, stream: BinaryIO) -> Any:
        """The object that the pickle describes; `stream` is left behind its last opcode."""
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            if count == MAX_OPCODES:
                raise FormatError(f"more than {MAX_OPCODES} pickle opcodes")
            if opcode.name != "STOP" and not self._step(opcode.name, argument):
                raise FormatError(
                    f"pickle opcode {opcode.name} at byte {position}, allowed: those "
                    "that numpy writes for a dict of arrays"
                )
        (result,) = self.stack
        return result

    def _step(self, opcode: str, argument: Any) -> bool:
        """Follow one opcode; False where it is not among those allowed."""
        if opcode in self.LITERALS:
            self.stack.append(argument)
        elif opcode in self.CONSTANTS:
            self.stack.append(self.CONSTANTS[opcode])
        elif opcode in self.TUPLE_SIZES:
            self.stack.append(tuple(self._pop(self.TUPLE_SIZES[opcode])))
        elif opcode not in self.IGNORED:
            return self._step_container(opcode) or self._step_reference(opcode, argument)
        return True

    def _step_container(self, opcode: str) -> bool:
        match opcode:
            case "MARK":
                self.below_marks.append(self.stack)
                self.stack = []
            case "TUPLE":
                self.stack.append(tuple(self._pop_to_mark()))
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
                return False
        return True

    def _step_reference(self, opcode: str, argument: Any) -> bool:
        match opcode:
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.stack[-1]
            case "BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self.stack.append(_known_global(*argument.split(" ")))
            case "STACK_GLOBAL":
                self.stack.append(_known_global(*self._pop(2)))
            case "REDUCE":
                self._record(*self._pop(2))
            case "BUILD":
                (state,) = self._pop(1)
                _expect(self.stack[-1], Recorded).state = state
            case _:
                return False
        return True

    def _pop(self, count: int) -> list[Any]:
        """The top `count` values, lowest first."""
        start = len(self.stack) - count
        if start < 0:
            raise FormatError("damaged: the pickle takes more values than it has")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _pop_to_mark(self) -> list[Any]:
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

    def _record(self, function: Any, arguments: Any) -> None:
        call = Recorded(_expect(function, NumpyName), _expect(arguments, tuple))
        self.stack.append(call)


def _known_global(module: Any, name: Any) -> NumpyName:
    found = _GLOBALS.get((_expect(module, str), _expect(name, str)))
    if found is None:
        raise FormatError(
            f"asks for {shown(f'{module}.{name}')}, allowed: "
            "numpy's _reconstruct, ndarray and dtype; a file that asks for more may be hostile"
        )
    return found


def _expect[T](value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise FormatError(f"damaged: the pickle has {shown(value)} for a {kind.__name__}")
    return value
