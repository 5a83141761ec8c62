"""Clips in an order that does not change: listed files, Parquet files, a data set."""

import hashlib
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codax.corpus.arrow_rows import value_of
from codax.errors import CodaxError, told_of

AUDIO_COLUMNS = ("audio", "audio_filepath", "audio_path", "path", "file", "file_name")
"""Of manifests and tables, in the order in which they are looked for."""

ROWS_AT_ONCE = 16
"""Rows of a table that are held in memory."""

BYTES_AT_ONCE = 1 << 20
"""Of a Parquet file, that are read before they are decoded."""


# What Arrow raises for damaged files.
NOT_READ = (pa.ArrowException, OSError)


class Corpus(ABC):
    """Clips in an order that does not change.

    source: what it was opened by; schema: the columns that go along with the audio
    column: of the audio, or None where there is none
    """

    def __init__(self, source: str, schema: pa.Schema, column: str | None = None):
        self.source = source
        self.schema = schema
        self.column = column

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """(value of the audio column, other columns) of the clips from `start` to before `stop`.

        Raises `CodaxError` where a table cannot be read.
        """

    @abstractmethod
    def digest(self) -> str:
        """Changes where clips are added, taken away or put in another order, where a table or what
        a manifest tells is edited, and where a file that a folder was searched for is written.
        """


class FileCorpus(Corpus):
    """Audio files by path, with what is told of each.

    digest: gives the corpus's
    """

    def __init__(
        self,
        source: str,
        paths: list[str],
        rows: pa.Table,
        digest: Callable[[], str],
        column: str | None = None,
    ):
        super().__init__(source, rows.schema, column)
        self._paths = paths
        self._rows = rows
        self._digest = digest

    def __len__(self) -> int:
        return len(self._paths)

    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        rows = self._rows.slice(start, stop - start).to_pylist()
        return zip(self._paths[start:stop], rows, strict=True)

    def digest(self) -> str:
        return self._digest()


class ParquetCorpus(Corpus):
    """Parquet files with a column of audio, of which a few rows are held at a time.

    Shards that follow each other read a row group once. Paths in the column are beside their file.

    paths: of the files; holds_paths: whether the column has paths, rather than audio
    """

    def __init__(self, source: str, paths: list[Path], column: str | None):
        self.paths = paths
        schemas = [pq.read_schema(path).remove_metadata() for path in paths]
        for path, schema in zip(paths, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise CodaxError(f"{path}: has other columns than {paths[0]}")
        self._audio = audio_column(source, schemas[0].names, column)
        super().__init__(source, _without(schemas[0], self._audio), self._audio)
        kind = schemas[0].field(self._audio).type
        self.holds_paths = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        self._groups = [
            (path, group, metadata.row_group(group).num_rows)
            for path in paths
            for metadata in [pq.read_metadata(path)]
            for group in range(metadata.num_row_groups)
        ]
        self._ends = [*accumulate(rows for *_, rows in self._groups)]
        self._left_open: deque[_RowGroup] = deque(maxlen=1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_left_open": deque(maxlen=1)}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        while start < stop:
            index = bisect_right(self._ends, start)
            path, _, rows = self._groups[index]
            first = self._ends[index] - rows
            end = min(stop, self._ends[index])
            try:
                group = self._opened(index, start - first)
                for batch in group.batches(start - first, end - first):
                    for value, row in _rows_of(batch, self._audio, self.schema):
                        yield _beside(path.parent, value), row
            except NOT_READ as error:
                raise CodaxError(told_of(path, error)) from error
            self._left_open.append(group)
            start = end

    def _opened(self, index: int, row: int) -> "_RowGroup":
        """A row group from which that row is still to come: the one left open, where it fits."""
        left = self._left_open.pop() if self._left_open else None
        if left is not None and left.index == index and left.at <= row:
            return left
        path, group, _ = self._groups[index]
        return _RowGroup(index, path, group)

    def digest(self) -> str:
        return digest_of_files(self.paths, self.source)


class _RowGroup:
    """The rows of a row group, forwards.

    index: of all groups of the corpus; at: the first row that is still to be had
    """

    def __init__(self, index: int, path: Path, group: int):
        self.index = index
        self.at = 0
        self._path = path
        file = pq.ParquetFile(path, buffer_size=BYTES_AT_ONCE, pre_buffer=False)
        self._batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[group])
        self._batch: Any = ()

    def batches(self, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        """The rows from `start` to before `stop`."""
        while start < stop:
            end = self.at + len(self._batch)
            if start < end:
                batch = self._batch.slice(start - self.at, stop - start)
                start += len(batch)
                yield batch
                continue
            self.at = end
            self._batch = next(self._batches, None)
            if self._batch is None:
                raise CodaxError(f"{self._path}: ends before its rows do; was it written anew?")


class DatasetCorpus(Corpus):
    """A `datasets.Dataset`, of which nothing is decoded: neither the audio nor other columns."""

    def __init__(self, source: str, dataset: Any, column: str | None):
        audio = audio_column(source, dataset.column_names, column)
        schema = _stored(dataset.features.arrow_schema.remove_metadata())
        super().__init__(source, _without(schema, audio), audio)
        self._audio = audio
        self._fingerprint = dataset._fingerprint
        self._dataset = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self._dataset)

    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        for first in range(start, stop, ROWS_AT_ONCE):
            try:
                rows = self._dataset[first : min(first + ROWS_AT_ONCE, stop)]
                for batch in rows.cast(_stored(rows.schema)).to_batches():
                    yield from _rows_of(batch, self._audio, self.schema)
            except NOT_READ as error:
                raise CodaxError(told_of(self.source, error)) from error

    def digest(self) -> str:
        return self._fingerprint


def audio_column(source: str, names: Iterable[str], column: str | None) -> str:
    """The column of audio among those: `column`, or the first of `AUDIO_COLUMNS`.

    Raises `CodaxError` naming the source where there is none.
    """
    names = list(names)
    wanted = AUDIO_COLUMNS if column is None else (column,)
    for name in wanted:
        if name in names:
            return name
    raise CodaxError(
        f"{source}: has no column {' or '.join(map(repr, wanted))}, but {', '.join(names)}; "
        "--column names that of the audio"
    )


def digest_of_files(paths: Iterable[str | os.PathLike], source: str) -> str:
    """SHA-256 of where the files are within the source, of their sizes and when they were written.

    source: a folder that the files are in, or the one file
    """
    root = source if os.path.isdir(source) else os.path.dirname(source) or "."
    digest = hashlib.sha256()
    for path in paths:
        name = os.fsencode(os.path.relpath(path, root))
        try:
            status = os.stat(path)
            told = f"\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:
            told = "\0cannot be read\n"
        digest.update(name + told.encode())
    return digest.hexdigest()


def _rows_of(
    batch: pa.RecordBatch, audio: str, schema: pa.Schema
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(audio, other columns) of each row; arrays come as arrays."""
    values = batch.column(audio)
    rows = batch.select(schema.names).to_pylist() if len(schema) else [{} for _ in values]
    for value, row in zip(values, rows, strict=True):
        yield value_of(value), row


def _stored(schema: pa.Schema) -> pa.Schema:
    """With the types that columns are stored as, such as the lists behind `datasets.Array2D`."""
    return pa.schema(
        [
            field.with_type(field.type.storage_type)
            if isinstance(field.type, pa.BaseExtensionType)
            else field
            for field in schema
        ]
    )


def _beside(folder: Path, value: Any) -> Any:
    """A value of an audio column, with its path if that is all that it has."""
    if isinstance(value, str):
        return os.path.join(folder, value)
    if isinstance(value, Mapping) and value.get("bytes") is None and value.get("path"):
        return {**value, "path": os.path.join(folder, value["path"])}
    return value


def _without(schema: pa.Schema, column: str) -> pa.Schema:
    return schema.remove(schema.get_field_index(column))
