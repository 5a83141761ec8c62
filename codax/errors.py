"""What codax raises when what it was given is wrong.

Every message is one line that names the file or value and says what is allowed, so that the command
line can print it as it is. All are `ValueError`s: code that catches those keeps working.
"""

import os


class CodaxError(ValueError):
    """Bad input, found by codax. The base of all errors below."""


class AudioError(CodaxError):
    """Audio that cannot be read, or that the model cannot take."""


class FormatError(CodaxError):
    """A compressed file that is damaged, hostile or of another kind."""


class CheckpointError(CodaxError):
    """Weights that do not fit the model, or are not what they claim to be."""


def one_line(error: BaseException) -> str:
    """An error's message on one line; its type stands in for a message that it lacks."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return _words(f"{error.filename}: {error.strerror}")
    return _words(error) or type(error).__name__


def told_of(name: str | os.PathLike | None, error: BaseException) -> str:
    """`one_line`, which begins with the name of what the error is about, if it has one, once."""
    line = one_line(error)
    if name is None or line.startswith(f"{_words(name)}: "):
        return line
    return f"{_words(name)}: {line}"


def _words(told: object) -> str:
    """On one line, whatever stands between them."""
    return " ".join(str(told).split())
