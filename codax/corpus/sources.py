"""Where a corpus comes from: a folder of audio, a manifest, Parquet files, a data set.

Needs pyarrow, which comes with `datasets` (`pip install "codax[data]"`).
"""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codax.errors import CodaxError
from codax.feature_extraction import AUDIO_SUFFIXES

UNREAD_SUFFIXES = (".m4a", ".mp4", ".aac")
"""Found in a folder all the same, so that they are told of."""

MANIFEST_SUFFIXES = (".jsonl", ".ndjson")

AUDIO_COLUMNS = ("audio", "audio_filepath", "audio_path", "path", "file", "file_name")
"""Of manifests and tables, in the order in which they are looked for."""


class Corpus(ABC):
    """Clips in an order that does not change.

    source: what it was opened by; schema: the columns that go along with the audio
    """

    def __init__(self, source: str, schema: pa.Schema):
        self.source = source
        self.schema = schema

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        """(value of the audio column, other columns) of the clips from `start` to before `stop`."""

    @abstractmethod
    def digest(self) -> str:
        """Something that changes where clips are added, taken away or put in another order."""


class FileCorpus(Corpus):
    """Audio files by path, with what is told of each."""

    def __init__(self, source: str, paths: list[str], rows: pa.Table):
        super().__init__(source, rows.schema)
        self._paths = paths
        self._rows = rows

    def __len__(self) -> int:
        return len(self._paths)

    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        rows = self._rows.slice(start, stop - start).to_pylist()
        return zip(self._paths[start:stop], rows, strict=True)

    def digest(self) -> str:
        return _digest(os.path.relpath(path, self.source) for path in self._paths)


class ParquetCorpus(Corpus):
    """Parquet files with a column of audio, read one row group at a time."""

    def __init__(self, source: str, paths: list[Path], column: str | None):
        self._paths = paths
        schemas = [pq.read_schema(path).remove_metadata() for path in paths]
        for path, schema in zip(paths, schemas, strict=True):
            if not schema.equals(schemas[0]):
                raise CodaxError(f"{path}: has other columns than {paths[0]}")
        self._column = _audio_column(source, schemas[0].names, column)
        super().__init__(source, _without(schemas[0], self._column))
        self._groups = [
            (path, group, metadata.row_group(group).num_rows)
            for path in paths
            for metadata in [pq.read_metadata(path)]
            for group in range(metadata.num_row_groups)
        ]
        self._ends = [*accumulate(rows for *_, rows in self._groups)]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        place = start
        while place < stop:
            index = bisect_right(self._ends, place)
            path, group, rows = self._groups[index]
            first = self._ends[index] - rows
            table = pq.ParquetFile(path).read_row_group(group)
            for row in table.slice(place - first, stop - place).to_pylist():
                yield row.pop(self._column), row
                place += 1

    def digest(self) -> str:
        return _digest(f"{path.name} {group} {rows}" for path, group, rows in self._groups)


class DatasetCorpus(Corpus):
    """A `datasets.Dataset`, whose audio is not decoded."""

    def __init__(self, source: str, dataset: Any, column: str | None):
        from datasets import Audio

        self._column = _audio_column(source, dataset.column_names, column)
        if isinstance(dataset.features[self._column], Audio):
            dataset = dataset.cast_column(self._column, Audio(decode=False))
        schema = dataset.features.arrow_schema.remove_metadata()
        super().__init__(source, _without(schema, self._column))
        self._dataset = dataset.with_format(None)

    def __len__(self) -> int:
        return len(self._dataset)

    def clips(self, start: int, stop: int) -> Iterator[tuple[Any, dict[str, Any]]]:
        for index in range(start, stop):
            row = dict(self._dataset[index])
            yield row.pop(self._column), row

    def digest(self) -> str:
        return self._dataset._fingerprint


def open_corpus(
    source: str | os.PathLike,
    column: str | None = None,
    split: str = "train",
    config_name: str | None = None,
    revision: str | None = None,
) -> Corpus:
    """Open what holds a corpus, by what it is.

    source: a folder of audio files; a manifest, a .jsonl file whose lines are objects that name a
        file each, beside itself or by an absolute path; a .parquet file, or a folder of them; a
        folder of `Dataset.save_to_disk`; the id of a data set on the Hub
    column: of the audio; by default the first of `AUDIO_COLUMNS` that there is
    split, config_name, revision: of a data set

    Raises `CodaxError` where it is none of these, or has no clips.
    """
    name = os.fspath(source)
    path = Path(name)
    if path.is_dir():
        corpus = _open_folder(path, column, split)
    elif path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
        corpus = _open_manifest(path, column)
    elif path.suffix.lower() == ".parquet" and path.is_file():
        corpus = _open_parquet(path, [path], column)
    elif path.exists():
        raise CodaxError(
            f"{name}: a corpus is a folder, a .jsonl or .parquet file, or a data set of the Hub"
        )
    else:
        corpus = _open_hub(name, column, split, config_name, revision)
    if not len(corpus):
        raise CodaxError(f"{name}: holds no clips")
    return corpus


def _open_folder(folder: Path, column: str | None, split: str) -> Corpus:
    if (folder / "dataset_dict.json").is_file():
        if not (folder / split).is_dir():
            raise CodaxError(f"{folder}: has no split {split!r}")
        folder = folder / split
    if (folder / "state.json").is_file():
        from datasets import load_from_disk

        return DatasetCorpus(str(folder), load_from_disk(str(folder)), column)
    tables = sorted(path for path in folder.rglob("*.parquet") if _is_visible(path, folder))
    if tables:
        return _open_parquet(folder, tables, column)
    paths = sorted(_audio_files(folder))
    relative = [Path(path).relative_to(folder).as_posix() for path in paths]
    if not paths:
        raise CodaxError(f"{folder}: holds no audio ({' '.join(AUDIO_SUFFIXES)}) and no Parquet")
    return FileCorpus(str(folder), paths, pa.table({"path": pa.array(relative, pa.string())}))


def _audio_files(folder: Path) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in AUDIO_SUFFIXES + UNREAD_SUFFIXES and not name.startswith("."):
                yield os.path.join(parent, name)


def _is_visible(path: Path, folder: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _open_parquet(source: Path, paths: list[Path], column: str | None) -> Corpus:
    try:
        return ParquetCorpus(str(source), paths, column)
    except pa.ArrowInvalid as error:
        raise CodaxError(f"{source}: {' '.join(str(error).split())}") from error


def _open_manifest(path: Path, column: str | None) -> Corpus:
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                rows.append(_manifest_row(path, number, line))
    if not rows:
        raise CodaxError(f"{path}: holds no clips")
    column = _audio_column(str(path), list(rows[0]), column)
    paths = []
    for number, row in enumerate(rows, start=1):
        given = row.get(column)
        if not isinstance(given, str) or not given:
            raise CodaxError(f"{path}: clip {number} has no path in {column!r}")
        paths.append(str(path.parent / given))
    try:
        return FileCorpus(str(path), paths, pa.Table.from_pylist(rows))
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise CodaxError(f"{path}: its clips tell things of different types: {reason}") from error


def _manifest_row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CodaxError(f"{path}: line {number} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise CodaxError(f"{path}: line {number} is no object")
    return row


def _open_hub(
    name: str, column: str | None, split: str, config_name: str | None, revision: str | None
) -> Corpus:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise CodaxError(
            f'{name}: data sets of the Hub need datasets: pip install "codax[data]"'
        ) from error
    try:
        dataset = load_dataset(name, config_name, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CodaxError(
            f"{name}: neither a file or folder, nor a data set that can be had: {reason}"
        ) from error
    return DatasetCorpus(name, dataset, column)


def _audio_column(source: str, names: list[str], column: str | None) -> str:
    wanted = AUDIO_COLUMNS if column is None else (column,)
    for name in wanted:
        if name in names:
            return name
    raise CodaxError(
        f"{source}: has no column {' or '.join(map(repr, wanted))}, but {', '.join(names)}; "
        "--column names that of the audio"
    )


def _without(schema: pa.Schema, column: str) -> pa.Schema:
    return schema.remove(schema.get_field_index(column))


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()
