"""What codax raises when what it was given is wrong.

Every message is one line that names the file or value and says what is allowed, so that the command
line can print it as it is. All are `ValueError`s: code that catches those keeps working.
"""


class CodaxError(ValueError):
    """Bad input, found by codax. The base of all errors below."""


class AudioError(CodaxError):
    """Audio that cannot be read, or that the model cannot take."""


class FormatError(CodaxError):
    """A compressed file that is damaged, hostile or of another kind."""


class CheckpointError(CodaxError):
    """Weights that do not fit the model, or are not what they claim to be."""
