"""A coded clip as a row of a data set, and a row as a clip.

Columns of a row:

codes: int16 [N * K, F] (int32 for codebooks of more than 32768), the K codebooks of the first of N
    streams, then those of the next. DAC codes each channel as a stream; EnCodec's 48 kHz model both
    as one. A mono clip has [K, F].
sampling_rate: Hz, of the original; num_samples: its length; num_channels: how many were coded
input_db: LUFS of the original, NaN where it was coded at the level that it had
scales: float32 [N, S] and segment_frames: int32 [S], of EnCodec's 48 kHz model alone
error: "", or why there are no codes, with `errors="mark"` alone
"""

import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from codax.errors import CodaxError, FormatError
from codax.formats import EncodedAudio

SMALL_CODEBOOK = 2**15
"""The most entries whose codes int16 holds."""

NO_ERROR = ""


def codes_dtype(codebook_size: int) -> Any:
    """The smallest type of codes."""
    return np.int16 if codebook_size <= SMALL_CODEBOOK else np.int32


def row_of(clip: EncodedAudio, codebook_size: int = 2**31) -> dict[str, Any]:
    """A clip as a row, whose columns are those above but for `error`.

    codebook_size: of the model, which decides the type of the codes

    Raises `FormatError` for what a row does not tell: descript's unpadded chunks, or a loudness for
    each stream.
    """
    if not clip.padding or clip.chunk_frames != clip.num_frames:
        raise FormatError("a row holds clips that were coded whole, not in chunks")
    streams, books, frames = clip.codes.shape
    row = {
        "codes": clip.codes.reshape(streams * books, frames).astype(codes_dtype(codebook_size)),
        "sampling_rate": clip.sampling_rate,
        "num_samples": clip.num_samples,
        "num_channels": clip.channels,
        "input_db": _one_loudness(clip.input_db),
    }
    if clip.segment_frames is not None:
        row["segment_frames"] = np.array(clip.segment_frames, np.int32)
    if clip.scales is not None:
        row["scales"] = clip.scales
    return row


def empty_row(config: Any) -> dict[str, Any]:
    """The row of a clip without codes, for a model with this configuration: all columns but
    `error`, in their order.
    """
    row = {
        "codes": np.zeros((0, 0), codes_dtype(config.codebook_size)),
        "sampling_rate": 0,
        "num_samples": 0,
        "num_channels": 0,
        "input_db": math.nan,
    }
    if getattr(config, "segmenting", None) is not None:
        row["segment_frames"] = np.zeros(0, np.int32)
    if getattr(config, "normalize", False):
        row["scales"] = np.zeros((0, 0), np.float32)
    return row


def clip_of(row: Mapping[str, Any], channels_per_stream: int = 1) -> EncodedAudio:
    """A row, as lists or arrays, as a clip.

    channels_per_stream: of the model, `config.audio_channels`
    Raises `FormatError` for a row without codes, or one that no clip makes.
    """
    if error := row.get("error"):
        raise FormatError(f"a row without codes: {error}")
    try:
        codes = np.array([np.asarray(book) for book in row["codes"]])
        channels = operator.index(row["num_channels"])
        input_db = float(row.get("input_db", math.nan))
        frames, scales = row.get("segment_frames"), row.get("scales")
        frames = None if frames is None else tuple(map(operator.index, frames))
        scales = None if scales is None else np.array([np.asarray(one) for one in scales], float)
        rate, num_samples = row["sampling_rate"], row["num_samples"]
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"a row is none that codax makes: {error!r}") from error
    streams = channels // channels_per_stream
    has_streams = streams > 0 and not len(codes) % streams and not channels % channels_per_stream
    if codes.ndim != 2 or not codes.size or not has_streams:
        raise FormatError(
            f"a row has codes of shape {codes.shape} for {channels} channels, allowed: as many "
            f"books for each {channels_per_stream}"
        )
    return EncodedAudio(
        codes=codes.reshape(streams, -1, codes.shape[1]),
        sampling_rate=rate,
        num_samples=num_samples,
        input_db=None if math.isnan(input_db) else input_db,
        channels_per_stream=channels_per_stream,
        segment_frames=frames,
        scales=scales,
    )


def at_clip(index: int, error: Exception, hint: str = "") -> Exception:
    """An error of codax, saying which clip of a batch has it; others as they are."""
    if not isinstance(error, CodaxError):
        return error
    return type(error)(f"clip {index} of the batch: {error}{hint}")


def _one_loudness(input_db: float | tuple[float, ...] | None) -> float:
    if isinstance(input_db, tuple):
        raise FormatError("a row holds one loudness, not one for each stream")
    return math.nan if input_db is None else input_db
