"""Corpora on many machines: Ray Data reads and prepares audio beside the workers that encode it.

    dataset = encode_dataset(ray.data.read_parquet("audio"), EncodeAudio("descript/dac_44khz"),
                             concurrency=8, num_gpus=1)
    dataset.write_parquet("codes")

    source ── audio ──> tasks: read, resample, loudness ── samples ──> actors: the model ── codes
                        (no weights, any processor)        (Arrow)     (one a GPU, compiled once)

Clips of more than five minutes, in all channels, stay as they are until an actor reads them, piece
by piece. Tables between the two are Arrow's, with one column more, `CLIP`; so are those that come
out, with the types that `datasets` gives, so that `load_dataset("parquet")` opens what
`write_parquet` writes.
"""

from collections.abc import Iterator
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from codax.codec.preparing import LoadedClip, Preparation, PreparedClip
from codax.corpus.encode_audio import EncodeAudio
from codax.corpus.rows import NO_ERROR, empty_row
from codax.errors import AudioError
from codax.formats import EncodedAudio

try:
    import pyarrow as pa
    import ray.data

    from codax.corpus.arrow_rows import row_schema, row_table, value_of
except ImportError as error:
    raise ImportError(
        f'encoding on many machines needs Ray Data: pip install "codax[ray]" ({error})'
    ) from error

BATCH_SIZE = 64
"""Clips that an actor encodes together; at 44.1 kHz, five minutes of mono take 53 MB."""

CLIPS_PER_TASK = 8

CLIP = "__codax_clip__"
"""The column of prepared clips, on its way from tasks to actors."""

CLIP_TYPE = pa.struct(
    [
        ("samples", pa.large_binary()),  # float32 [C, T], or null: left to be read by the actor
        ("num_channels", pa.int64()),
        ("sampling_rate", pa.int64()),
        ("num_samples", pa.int64()),
        ("input_db", pa.float64()),
        ("error", pa.string()),  # or null
    ]
)


def encode_dataset(
    dataset: "ray.data.Dataset",
    encode: EncodeAudio,
    concurrency: int | tuple[int, int] = 1,
    num_gpus: float = 0,
    batch_size: int = BATCH_SIZE,
    keep_audio: bool = False,
) -> "ray.data.Dataset":
    """A data set with a column of audio -> one with the columns of codes that `encode` gives.

    Values, types and errors are those of `datasets.map(encode)`; so is what a column may hold, in
    Arrow's types. The other columns stay. Rows come in the order in which they are done, unless
    `ray.data.DataContext.get_current().execution_options.preserve_order` is set.

    encode: its model, and files that the column names, must be found under the same names on all
        machines. `encode.workers` threads, 1 by default, prepare the clips of a task, and so many
        processors are reserved for it.
    concurrency: actors, each of which holds the model; or the fewest and the most of them
    num_gpus: that Ray reserves for an actor; without one the model computes on all the processors
        of its machine, of which none are reserved, so that there are some for the tasks
    batch_size: clips that an actor takes at a time
    keep_audio: keep the column of audio

    The model's configuration is read here, its weights by the actors. Of an empty data set Ray
    makes one without columns, and writes no files.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be a positive number of clips")
    fewest, most = concurrency if isinstance(concurrency, tuple) else (concurrency, concurrency)
    schema = row_schema(encode.named.config(), encode.errors)
    how = encode.preparation()
    encode = copy(encode)
    encode.workers = encode.workers or 1
    prepared = dataset.map_batches(
        partial(_prepare, encode=encode, how=how, keep_audio=keep_audio),
        batch_size=CLIPS_PER_TASK,
        batch_format="pyarrow",
        num_cpus=encode.workers,
        udf_modifying_row_count=False,
    )
    return prepared.map_batches(
        _Encode,
        fn_constructor_args=(encode, how, schema, keep_audio),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=fewest, max_size=most),
        num_cpus=0,  # another number than the tasks have, or Ray has the actors do their work too
        num_gpus=num_gpus,
        udf_modifying_row_count=False,
    )


def _prepare(table: pa.Table, encode: EncodeAudio, how: Preparation, keep_audio: bool) -> pa.Table:
    """What a task does: adds the column of clips, and empties that of audio where it was read."""
    if encode.column not in table.column_names:
        raise KeyError(f"there is no column {encode.column!r}, but {', '.join(table.column_names)}")
    audio = table.column(encode.column)
    values = enumerate(value_of(scalar) for scalar in audio)
    clips = [clip for _, clip in encode.prepared(values, how)]
    table = table.append_column(
        CLIP, pa.array([_packed(clip, encode) for clip in clips], CLIP_TYPE)
    )
    if keep_audio:
        return table
    unread = [row if isinstance(clip, PreparedClip) else None for row, clip in enumerate(clips)]
    position = table.column_names.index(encode.column)
    return table.set_column(position, encode.column, audio.take(pa.array(unread, pa.int64())))


class _Encode:
    """What an actor does: keeps the model, and puts columns of codes for those of clips."""

    def __init__(self, encode: EncodeAudio, how: Preparation, schema: pa.Schema, keep_audio: bool):
        self._encode = encode
        self._how = how
        self._schema = schema
        self._dropped = [CLIP] if keep_audio else [CLIP, encode.column]
        encode.named.codec()

    def __call__(self, table: pa.Table) -> pa.Table:
        encoded = self._encode.encoded_clips(enumerate(self._clips(table)))
        rows = {key: self._row(clip) for key, clip in encoded}
        coded = row_table((rows[key] for key in range(table.num_rows)), self._schema)
        kept = table.drop_columns(self._dropped)
        return pa.table({**_columns(kept), **_columns(coded)})

    def _clips(self, table: pa.Table) -> Iterator[LoadedClip | PreparedClip | Exception]:
        audio = table.column(self._encode.column)
        for packed, unread in zip(table.column(CLIP), audio, strict=True):
            clip = _unpacked(packed)
            yield self._opened(value_of(unread)) if clip is None else clip

    def _opened(self, value: Any) -> PreparedClip | Exception:
        try:
            return self._encode.opened(value, self._how)
        except AudioError as error:  # of a file that is not on this machine, for one
            return error

    def _row(self, clip: EncodedAudio | Exception) -> dict[str, Any]:
        if isinstance(clip, Exception):
            row = empty_row(self._encode.named.config())
            error = _reason_unless_raised(clip, self._encode)
        else:
            row, error = self._encode.row_of(clip), NO_ERROR
        return {**row, "error": error}  # which the schema drops where it is not wanted


def _packed(clip: LoadedClip | PreparedClip | Exception, encode: EncodeAudio) -> dict[str, Any]:
    """A clip as a value of `CLIP_TYPE`."""
    if isinstance(clip, Exception):
        return {"error": _reason_unless_raised(clip, encode)}
    if isinstance(clip, PreparedClip):
        return {}
    return {
        "samples": np.ascontiguousarray(clip.samples).tobytes(),
        "num_channels": clip.channels,
        "sampling_rate": clip.sampling_rate,
        "num_samples": clip.num_samples,
        "input_db": clip.input_db,
    }


def _unpacked(packed: pa.StructScalar) -> LoadedClip | AudioError | None:
    """A value of `CLIP_TYPE` as a clip, whose samples stay where they are; None for one unread."""
    samples, *others = packed.values()
    channels, sampling_rate, num_samples, input_db, error = (other.as_py() for other in others)
    if error is not None:
        return AudioError(error)
    if not samples.is_valid:
        return None
    array = np.frombuffer(samples.as_buffer(), np.float32).reshape(channels, -1)
    return LoadedClip(array, sampling_rate, num_samples, input_db)


def _reason_unless_raised(error: Exception, encode: EncodeAudio) -> str:
    """Why a clip is marked; raises the error where it is to be raised instead."""
    if encode.errors == "raise":
        raise AudioError(f"{error}; errors='mark' goes on without it") from error
    return str(error)


def _columns(table: pa.Table) -> dict[str, Any]:
    return dict(zip(table.column_names, table.columns, strict=True))
