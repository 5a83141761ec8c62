"""One clip as codes, independent of any model and of any file format."""

import dataclasses
import math
import operator
import os

import numpy as np

from codax.errors import FormatError

MAX_SAMPLING_RATE = 768_000
"""Hz. Twice the fastest audio converters on sale; far above it a rate is damage, not audio."""

MAX_INPUT_DB = 200.0
"""LUFS, either sign. Wider than 32-bit integers read as floats; 10 ** (dB / 20) stays finite."""

MAX_FRAME_S = 1.0
"""Codecs have 12 to 150 frames a second: a clip longer than this per frame is not what the codes
hold. It bounds what a file of a few bytes can make a decoder allocate."""


MAX_CHANNELS = 256
"""Of one stream; codecs have 1 or 2."""


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedAudio:
    """One clip as codes, with what is needed to give back its length, rate and loudness.

    codes: int32 [N, K, F], N streams, K codebooks, F frames. Any integer array is taken and
        converted. DAC codes each channel as a stream of its own, EnCodec all channels as one.
    sampling_rate: Hz, of the original audio before any resampling.
    num_samples: length of the original at that rate.
    input_db: loudness of the original in LUFS (ITU-R BS.1770), jointly over the channels. A tuple
        of N where every stream was measured and normalised alone. None: do not rescale the output.
    chunk_frames: frames in one independently coded chunk; F for a clip that was coded in one piece,
        which None stands for.
    padding: True where the convolutions were zero-padded, False for the unpadded chunks of the
        original chunked compression (docs/formats.md, "Chunks").
    channels_per_stream: how many channels of audio one stream decodes to.
    segment_frames: frames of the overlapping segments that EnCodec's 48 kHz model codes, one after
        the other in `codes`. None: one segment.
    scales: float32 [N, S], by which each of S segments is multiplied when it is decoded, or None.
    model: which model made the codes: a preset's name, a Hub id or a folder. None: not known.
    revision: which version of its weights, where that has one. None: not known.
    preset: the released model of the same architecture, whose name `.ecdc` files give. None: there
        is none, or it is not known. Not compared.
    coded_samples: length of the audio as it was coded, at the model's sampling rate, which `.ecdc`
        files give instead of the original's. None: not known. Not compared.

    Raises `FormatError` for anything else, naming the field, its value and what is allowed.
    """

    codes: np.ndarray
    sampling_rate: int
    num_samples: int
    input_db: float | tuple[float, ...] | None = None
    chunk_frames: int | None = None
    padding: bool = True
    channels_per_stream: int = 1
    segment_frames: tuple[int, ...] | None = None
    scales: np.ndarray | None = None
    model: str | None = None
    revision: str | None = None
    preset: str | None = dataclasses.field(default=None, compare=False)
    coded_samples: int | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        checked = {
            "codes": _checked_codes(self.codes),
            "sampling_rate": _checked_int("sampling_rate", self.sampling_rate, MAX_SAMPLING_RATE),
        }
        streams, _, num_frames = checked["codes"].shape
        longest = int(num_frames * MAX_FRAME_S * checked["sampling_rate"])
        checked["num_samples"] = _checked_int("num_samples", self.num_samples, longest)
        chunk_frames = num_frames if self.chunk_frames is None else self.chunk_frames
        checked["chunk_frames"] = _checked_int("chunk_frames", chunk_frames, num_frames)
        checked["input_db"] = _checked_loudness(self.input_db, streams)
        if not isinstance(self.padding, bool):
            raise FormatError(f"padding is {self.padding!r}, allowed: True or False")
        checked["channels_per_stream"] = _checked_int(
            "channels_per_stream", self.channels_per_stream, MAX_CHANNELS
        )
        checked["segment_frames"] = _checked_segments(self.segment_frames, num_frames)
        segments = 1 if self.segment_frames is None else len(self.segment_frames)
        checked["scales"] = _checked_scales(self.scales, (streams, segments))
        for field in ("model", "revision", "preset"):
            name = getattr(self, field)
            if name is not None and not (isinstance(name, str) and name):
                raise FormatError(f"{field} is {name!r}, allowed: a name, or None")
        for field, value in checked.items():
            object.__setattr__(self, field, value)

    @property
    def channels(self) -> int:
        return self.codes.shape[0] * self.channels_per_stream

    @property
    def num_codebooks(self) -> int:
        return self.codes.shape[1]

    @property
    def num_frames(self) -> int:
        return self.codes.shape[2]

    @property
    def duration_s(self) -> float:
        """Length of the original audio in seconds."""
        return self.num_samples / self.sampling_rate

    def check_codes(self, num_codebooks: int, codebook_size: int) -> None:
        """Raise `FormatError` unless a model with these codebooks can decode the codes."""
        if self.num_codebooks > num_codebooks:
            raise FormatError(
                f"codes use {self.num_codebooks} codebooks, allowed: up to {num_codebooks}, "
                "which is all that the model has"
            )
        largest = int(self.codes.max())
        if largest >= codebook_size:
            raise FormatError(
                f"codes reach {largest}, allowed: 0 to {codebook_size - 1} "
                f"for the model's codebooks of {codebook_size} entries"
            )

    def save(self, path: str | os.PathLike) -> None:
        """Write the format that the suffix of `path` names; the file is whole or absent.

        Raises `FormatError` for an unknown suffix or a clip that the format cannot hold, `OSError`
        where the file cannot be written.
        """
        # Imported here because the containers, in turn, build this class.
        from codax.formats.containers import container_of

        container_of(path).write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "EncodedAudio":
        """Read the format that the suffix of `path` names.

        Raises `FormatError` for an unknown suffix or a damaged file, `OSError` where the file
        cannot be read.
        """
        from codax.formats.containers import container_of  # see `save`

        return container_of(path).read(path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EncodedAudio):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            if field.name in ("codes", "scales")
            else getattr(self, field.name) == getattr(other, field.name)
            for field in dataclasses.fields(self)
            if field.compare
        )

    # Equal by content, and an array cannot be hashed.
    __hash__ = None  # pyright: ignore[reportAssignmentType]


def _checked_codes(codes: np.ndarray) -> np.ndarray:
    """Any integer array [C, K, F] -> int32 [C, K, F]."""
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iu":
        raise FormatError(f"codes are {codes.dtype}, allowed: integers")
    if codes.ndim != 3 or codes.size == 0:
        raise FormatError(
            f"codes have shape {codes.shape}, allowed: (channels, codebooks, frames), all over 0"
        )
    smallest, largest = int(codes.min()), int(codes.max())
    if smallest < 0 or largest > np.iinfo(np.int32).max:
        raise FormatError(
            f"codes reach from {smallest} to {largest}, allowed: 0 to {np.iinfo(np.int32).max}"
        )
    return np.array(codes, np.int32, order="C")


def _checked_segments(frames: tuple[int, ...] | None, num_frames: int) -> tuple[int, ...] | None:
    if frames is None:
        return None
    if not isinstance(frames, tuple) or not frames:
        raise FormatError(
            f"segment_frames is {frames!r}, allowed: a tuple of frame counts, or None"
        )
    checked = tuple(_checked_int("segment_frames: an entry", one, num_frames) for one in frames)
    if sum(checked) != num_frames:
        raise FormatError(f"segment_frames add up to {sum(checked)}, allowed: {num_frames}")
    return checked


def _checked_scales(scales: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray | None:
    if scales is None:
        return None
    scales = np.array(scales, np.float32)
    if scales.shape != shape:
        raise FormatError(f"scales have shape {scales.shape}, allowed: {shape}, streams, segments")
    if not (np.isfinite(scales) & (scales >= 0)).all():
        raise FormatError("scales hold negative or non-finite values, allowed: 0 and above")
    return scales


def _checked_int(name: str, value: int, largest: int) -> int:
    """A Python int from 1 to `largest`, from any integer type but bool."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= largest:
        raise FormatError(f"{name} is {value!r}, allowed: an integer from 1 to {largest}")
    return number


def _checked_loudness(
    input_db: float | tuple[float, ...] | None, channels: int
) -> float | tuple[float, ...] | None:
    if input_db is None:
        return None
    if not isinstance(input_db, tuple):
        return _checked_db(input_db)
    if len(input_db) != channels:
        raise FormatError(
            f"input_db has {len(input_db)} values, allowed: one number or one per channel "
            f"({channels})"
        )
    return tuple(map(_checked_db, input_db))


def _checked_db(value: float) -> float:
    number = float(value) if isinstance(value, float | int | np.floating) else math.nan
    if not abs(number) <= MAX_INPUT_DB:
        raise FormatError(
            f"input_db is {value!r}, allowed: {-MAX_INPUT_DB:g} to {MAX_INPUT_DB:g} LUFS, or None"
        )
    return number
