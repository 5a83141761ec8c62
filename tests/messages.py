"""What is told where something is refused: one line each."""

import pytest

from codax.errors import FormatError


def one_line_error(kind, call, *arguments, match=None, **options):
    """The message of the error of this kind that a call raises."""
    with pytest.raises(kind, match=match) as raised:
        call(*arguments, **options)
    message = str(raised.value)
    assert "\n" not in message
    return message


def assert_file_refused(read, source, message=None, name="<bytes>", **options):
    """A short `FormatError` that begins with the file's name."""
    line = one_line_error(FormatError, read, source, match=message, **options)
    assert line.startswith(f"{name}: ")
    assert len(line) < 500
