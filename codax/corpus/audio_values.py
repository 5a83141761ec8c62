"""What stands in a data set's audio column, as audio that can be prepared."""

import operator
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from codax.codec import Audio
from codax.codec.preparing import AudioSource
from codax.errors import AudioError


def audio_of(value: Any, sampling_rate: int | None = None) -> AudioSource:
    """A value of an audio column -> what `AudioCodec.encode` takes.

    value: {"bytes", "path"} as of `Audio(decode=False)`, where bytes go before a path;
        {"array", "sampling_rate"}; torchcodec's decoder, as `datasets` gives it, with all of its
        channels; a path, the bytes of a file, a `codax.Audio`; an array [T] or [C, T]
    sampling_rate: Hz, of arrays that come without

    Raises `AudioError` for a value that is none of these, or that is missing.
    """
    if value is None:
        raise AudioError("there is no audio: the value is None")
    if isinstance(value, str | os.PathLike | bytes | Audio):
        return value
    if hasattr(value, "get_all_samples"):
        samples = value.get_all_samples()
        return Audio(np.asarray(samples.data, np.float32), _rate(samples.sample_rate))
    if isinstance(value, Mapping):
        return _of_mapping(value, sampling_rate)
    return _of_array(value, sampling_rate)


def name_of(value: Any) -> str | None:
    """The path that a value tells, if it does."""
    if isinstance(value, Mapping):
        value = value.get("path")
    return os.fspath(value) if isinstance(value, str | os.PathLike) else None


def _of_mapping(value: Mapping, sampling_rate: int | None) -> AudioSource:
    content = value.get("bytes")
    if content is not None:
        if not isinstance(content, bytes | bytearray | memoryview):
            raise AudioError(f"bytes are {type(content).__name__}; expected the bytes of a file")
        return bytes(content)
    if value.get("array") is not None:
        rate = value.get("sampling_rate")
        return _of_array(value["array"], sampling_rate if rate is None else rate)
    if value.get("path") is not None:
        return value["path"]
    raise AudioError(
        f"there is no audio in {{{', '.join(value)}}}: expected bytes, a path, or an array with "
        "its sampling_rate"
    )


def _of_array(array: Any, rate: Any) -> Audio:
    if rate is None:
        raise AudioError("an array without a sampling rate needs sampling_rate= (Hz)")
    return Audio(_array(array), _rate(rate))


def _rate(value: Any) -> Any:
    """An integer of any type as Python's; of what is none, `Preparation.of` tells."""
    try:
        return operator.index(value)
    except TypeError:
        return value


def _array(value: Any) -> np.ndarray:
    """[T] or [C, T] -> [C, T]; what is wrong with it is told when it is prepared."""
    if isinstance(value, list) and value and isinstance(value[0], list | np.ndarray):
        value = [np.asarray(channel) for channel in value]
    try:
        return np.atleast_2d(np.asarray(value))
    except ValueError as error:
        raise AudioError("channels of different lengths do not make an array") from error
