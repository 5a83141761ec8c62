"""Fields that come out of a file: shown in an error, or refused by one."""

import json
from collections.abc import Set
from typing import Any

from codax.errors import FormatError

SHOWN_CHARACTERS = 60
MOST_BITS = 14_000
"""Of integers that are shown by their digits: Python refuses to make more than 4300 of them."""


def shown(value: object) -> str:
    """`value` for an error message: one short line, cheap to make whatever the file holds."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        value = value[: SHOWN_CHARACTERS + 1]
    elif value is not None and not isinstance(value, int | float):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def dict_of(
    value: Any, name: str, required: Set[str], optional: Set[str] = frozenset()
) -> dict[str, Any]:
    """Check the keys of a dict. Unknown ones are refused: they may change what the codes mean."""
    if not isinstance(value, dict):
        raise FormatError(f"{name} holds {shown(value)}, allowed: a dict")
    if missing := required - value.keys():
        raise FormatError(f"{name} lacks {min(missing)!r}, needed: {', '.join(sorted(required))}")
    if unknown := value.keys() - required - optional:
        allowed = ", ".join(sorted(required | optional))
        raise FormatError(f"{name} has the unknown key {shown(min(unknown))}, allowed: {allowed}")
    return value


def read_json_object(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object in UTF-8 -> dict; raises `FormatError`, beginning with `name`.

    `text` must be bounded in length: numbers in it are read, and nested lists are built.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_without_repeated_keys)
    except FormatError as error:
        raise FormatError(f"{name} {error}") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[: 2 * SHOWN_CHARACTERS]
        raise FormatError(f"{name} is no JSON: {reason}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{name} is {shown(value)}, allowed: a JSON object")
    return value


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which one counts."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise FormatError("repeats a key, allowed: each key once")
    return fields
