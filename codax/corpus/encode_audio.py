"""Audio columns to codes: callables for `datasets.map`, and the stream behind them."""

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from numbers import Number
from typing import Any

import numpy as np

from codax.codec.audio_codec import preparation_for
from codax.codec.batches import Key
from codax.codec.preparing import TRAINED, LoadedClip, Preparation, PreparedClip, naming
from codax.corpus.audio_values import audio_of, name_of
from codax.corpus.loading import NamedModel
from codax.corpus.prefetch import default_workers, made_ahead
from codax.corpus.rows import NO_ERROR, at_clip, empty_row, row_of
from codax.errors import AudioError
from codax.formats import EncodedAudio

HELD_S = 300.0
"""Seconds of mono audio, in all channels, up to which a clip is held in memory."""

ERROR_POLICIES = ("raise", "mark")


class PrepareAudio:
    """Audio as a model takes it, for those who encode in their training loop.

    `dataset.map(PrepareAudio("dac_44khz"), batched=True)` adds the columns

    input_values: float32 [C, T], at the model's sampling rate, with its channels
    sampling_rate, num_samples: of the original; input_db: its loudness in LUFS, or NaN
    error: with `errors="mark"`

    A callable that pickles as its options; the model's weights are not needed.

    model, revision: as `EncodeAudio` takes them, and so are the others
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        revision: str | None = None,
        column: str = "audio",
        sampling_rate: int | None = None,
        resample: bool = True,
        mix_channels: bool = False,
        loudness_db: float | str | None = TRAINED,
        errors: str = "raise",
        workers: int | None = None,
    ):
        if errors not in ERROR_POLICIES:
            raise ValueError(f"errors={errors!r} must be one of {', '.join(ERROR_POLICIES)}")
        if workers is not None and not _is_count(workers):
            raise ValueError(f"workers={workers!r} must be a positive number of threads, or None")
        if sampling_rate is not None and not _is_count(sampling_rate):
            raise ValueError(f"sampling_rate={sampling_rate!r} must be a positive integer (Hz)")
        self.named = NamedModel(model, revision)
        self.column = column
        self.sampling_rate = sampling_rate
        self.resample = resample
        self.mix_channels = mix_channels
        self.loudness_db = loudness_db
        self.errors = errors
        self.workers = workers

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        """A batch of `datasets.map`, or one example -> the new columns of it."""
        del rank  # every process prepares alike
        return self._columns(batch, self._prepared_rows)

    def preparation(self) -> Preparation:
        """What is done to each clip."""
        return preparation_for(
            self.named.config(), self.loudness_db, self.mix_channels, self.resample
        )

    def prepared(
        self, items: Iterable[tuple[Key, Any]], how: Preparation | None = None
    ) -> Iterator[tuple[Key, LoadedClip | PreparedClip | Exception]]:
        """(key, value of an audio column) -> (key, clip), in order, read by threads ahead.

        Clips of more than `HELD_S` come unread. Where one cannot be prepared, the error names the
        file.

        how: `preparation()`, where it is known, so that no configuration is read
        """
        how = how or self.preparation()
        most = round(HELD_S * how.sampling_rate)

        def prepare(item: tuple[Key, Any]) -> tuple[Key, Any]:
            key, value = item
            try:
                clip = self.opened(value, how)
                return key, clip.loaded(most) or clip
            except AudioError as error:
                return key, error

        return made_ahead(prepare, items, self.workers or default_workers())

    def opened(self, value: Any, how: Preparation) -> PreparedClip:
        """A value of an audio column as a clip, unread, of which all errors name the file.

        Raises `AudioError` for one that cannot be prepared.
        """
        name = name_of(value)
        with naming(name):
            return how.of(audio_of(value, self.sampling_rate), name=name)

    def _prepared_rows(self, items: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        for key, clip in self.prepared(items):
            if isinstance(clip, Exception):
                yield key, clip
                continue
            try:
                with naming(clip.name):
                    samples = np.concatenate([*clip], axis=1)
            except AudioError as error:
                yield key, error
                continue
            loudness = np.nan if clip.input_db is None else clip.input_db
            row = {"input_values": samples, "sampling_rate": clip.sampling_rate}
            yield key, {**row, "num_samples": clip.num_samples, "input_db": loudness}

    def _empty_row(self) -> dict[str, Any]:
        row = {"input_values": np.zeros((0, 0), np.float32), "sampling_rate": 0, "num_samples": 0}
        return {**row, "input_db": np.nan}

    def _columns(self, batch: Mapping[str, Any], rows_of: Any) -> dict[str, Any]:
        """Run over the values of the column; those of one example are one row."""
        if self.column not in batch:
            raise KeyError(f"there is no column {self.column!r}, but {', '.join(batch)}")
        values = batch[self.column]
        is_batch = _is_batch(batch, values)
        rows: dict[int, dict] = {}
        for index, row in rows_of(enumerate(values if is_batch else [values])):
            error = NO_ERROR
            if isinstance(row, Exception):
                if self.errors == "raise":
                    raise at_clip(index, row, "; errors='mark' goes on without it")
                row, error = self._empty_row(), str(row)
            rows[index] = self._marked(row, error)
        if not is_batch:
            return rows[0]
        names = rows[0] if rows else self._marked(self._empty_row(), NO_ERROR)
        return {name: [rows[index][name] for index in range(len(rows))] for name in names}

    def _marked(self, row: dict[str, Any], error: str) -> dict[str, Any]:
        return {**row, "error": error} if self.errors == "mark" else row


class EncodeAudio(PrepareAudio):
    """Audio to codes: `dataset.map(EncodeAudio("descript/dac_44khz"), batched=True)`.

    Adds the columns that `codax.corpus.rows` tells: codes int16 [K, F], the sampling rate, number
    of samples and of channels, and loudness of the original; for EnCodec at 48 kHz scales too. Each
    clip has the codes that `AudioCodec.encode` gives it alone, whatever it is batched with.

    Pickles as its options and the name of the model, so that `datasets` finds what it has computed
    before, in another process as well. The model is loaded where it is first called. For
    `map(num_proc=...)` call `multiprocess.set_start_method("spawn")` first; with `with_rank=True`
    each process takes one device, else one process takes all.

    model: a preset's name, a Hub id, or a folder, whose content counts
    revision: of a Hub repository. Without it `datasets` cannot know that a repository has changed.
    n_quantizers, bandwidth: as `AudioCodec.encode` takes them
    chunk_length_s, batch_length_s: as `AudioCodec.encode_clips` takes them
    column: of the audio, which `audio_values.audio_of` reads: files' bytes and paths (as of
        `cast_column("audio", Audio(decode=False))`, which needs neither torch nor torchcodec),
        arrays, torchcodec's decoders
    sampling_rate: Hz, of arrays that come without
    resample: False refuses clips at other rates than the model's
    mix_channels: mix clips to as many channels as the model codes; by default all are kept, each
        coded by itself where the model is mono
    loudness_db: as `AudioCodec.encode` takes it: by default DAC's clips are brought to -16 LUFS
    errors: "raise" an `AudioError` for a clip that cannot be read, has no samples or ones that are
        not finite; or "mark" it: its row has no codes, and a column `error` says why
    workers: threads that read and decode audio ahead; by default one for each processor, up to 8
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        n_quantizers: int | None = None,
        bandwidth: float | None = None,
        chunk_length_s: float | None = None,
        batch_length_s: float | None = None,
        **preparation: Any,
    ):
        super().__init__(model, **preparation)
        self.n_quantizers = n_quantizers
        self.bandwidth = bandwidth
        self.chunk_length_s = chunk_length_s
        self.batch_length_s = batch_length_s

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        """A batch of `datasets.map`, or one example -> the new columns of it."""
        self.named.codec(rank)
        return self._columns(batch, self._coded_rows)

    def encoded(
        self, items: Iterable[tuple[Key, Any]]
    ) -> Iterator[tuple[Key, EncodedAudio | Exception]]:
        """(key, value of an audio column) -> (key, clip or error), in any order."""
        return self.encoded_clips(self.prepared(items))

    def encoded_clips(
        self, clips: Iterable[tuple[Key, LoadedClip | PreparedClip | Exception]]
    ) -> Iterator[tuple[Key, EncodedAudio | Exception]]:
        """`encoded`, of clips that were prepared."""
        failed: deque[tuple[Key, Exception]] = deque()

        def readable() -> Iterator[tuple[Key, LoadedClip | PreparedClip]]:
            for key, clip in clips:
                if isinstance(clip, Exception):
                    failed.append((key, clip))
                else:
                    yield key, clip

        encoded = self.named.codec().encode_clips(
            readable(), self.n_quantizers, self.bandwidth, self.chunk_length_s, self.batch_length_s
        )
        for key, clip in encoded:
            yield key, clip
            while failed:
                yield failed.popleft()
        yield from failed

    def row_of(self, clip: EncodedAudio) -> dict[str, Any]:
        """A clip as a row of the data set."""
        return row_of(clip, self.named.config().codebook_size)

    def _coded_rows(self, items: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
        for key, clip in self.encoded(items):
            yield key, clip if isinstance(clip, Exception) else self.row_of(clip)

    def _empty_row(self) -> dict[str, Any]:
        return empty_row(self.named.config())


def _is_batch(batch: Mapping[str, Any], values: Any) -> bool:
    """Whether these are the values of many examples.

    `datasets` tells, but not of formatted and of streamed data sets. There, a clip [C, T] is taken
    for a batch unless it comes with its rate, as {"array", "sampling_rate"}.
    """
    formatting = sys.modules.get("datasets.formatting.formatting")
    if formatting is not None and isinstance(batch, formatting.LazyDict):
        return isinstance(batch, formatting.LazyBatch)
    if isinstance(values, list | tuple):
        return not (values and isinstance(values[0], Number))
    if not getattr(values, "ndim", 0):
        return False
    return values.ndim > 1 or getattr(values.dtype, "kind", "f") in "OUS"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
