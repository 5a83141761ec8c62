"""Where a corpus comes from: a folder of audio, a manifest, Parquet files, a data set.

Needs pyarrow, which comes with `datasets` (`pip install "codax[data]"`).
"""

import hashlib
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from codax.corpus.corpora import (
    AUDIO_COLUMNS,
    NOT_READ,
    Corpus,
    DatasetCorpus,
    FileCorpus,
    ParquetCorpus,
    audio_column,
    digest_of_files,
)
from codax.errors import CodaxError, one_line, told_of
from codax.feature_extraction import AUDIO_SUFFIXES

__all__ = ["AUDIO_COLUMNS", "Corpus", "open_corpus"]

UNREAD_SUFFIXES = (".m4a", ".mp4", ".aac")
"""Found in a folder all the same, so that they are told of."""

MANIFEST_SUFFIXES = (".jsonl", ".ndjson")

# What Arrow raises for a value that no column holds.
NOT_ARROW = (pa.ArrowException, OverflowError, UnicodeError)


def open_corpus(
    source: str | os.PathLike,
    column: str | None = None,
    split: str = "train",
    config_name: str | None = None,
    revision: str | None = None,
    leave_out: str | os.PathLike | None = None,
) -> Corpus:
    """Open what holds a corpus, by what it is.

    source: a folder of audio files, links to folders included; a manifest, a .jsonl file whose
        lines are objects that name a file beside itself or by an absolute path; a .parquet file, or
        a folder of them; a folder of `Dataset.save_to_disk`; the id of a data set on the Hub
    column: of the audio; by default the first of `AUDIO_COLUMNS` that there is
    split, config_name, revision: of a data set
    leave_out: a folder below `source` that is not looked into, such as the one that is written to

    Raises `CodaxError` where it is none of these, has no clips, is a folder of both audio and
    Parquet files, or is `leave_out`.
    """
    name = os.fspath(source)
    path = Path(name)
    if path.is_dir():
        corpus = _open_folder(path, column, split, _identity(leave_out))
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


def _open_folder(
    folder: Path, column: str | None, split: str, left_out: tuple[int, int] | None
) -> Corpus:
    if _identity(folder) == left_out:
        raise CodaxError(f"{folder}: is the corpus and cannot be the output as well")
    if (folder / "dataset_dict.json").is_file():
        if not (folder / split).is_dir():
            raise CodaxError(f"{folder}: has no split {split!r}")
        folder = folder / split
    if (folder / "state.json").is_file():
        return _open_saved(folder, column)
    files = sorted(_files_below(folder, left_out))
    tables = [Path(path) for path in files if _suffix(path) == ".parquet"]
    paths = [path for path in files if _suffix(path) in AUDIO_SUFFIXES + UNREAD_SUFFIXES]
    if tables and paths:
        raise CodaxError(
            f"{folder}: holds audio, {_readable(paths[0])}, as well as Parquet, {tables[0]}; name "
            "the files or the folder of one of them"
        )
    if tables:
        return _open_parquet(folder, tables, column)
    if not paths:
        raise CodaxError(f"{folder}: holds no audio ({' '.join(AUDIO_SUFFIXES)}) and no Parquet")
    relative = [_readable(Path(path).relative_to(folder).as_posix()) for path in paths]
    rows = pa.table({"path": pa.array(relative, pa.string())})
    return FileCorpus(str(folder), paths, rows, partial(digest_of_files, paths, str(folder)))


def _files_below(
    folder: str | os.PathLike,
    left_out: tuple[int, int] | None,
    above: frozenset[tuple[int, int]] = frozenset(),
) -> Iterator[str]:
    """Files that are not hidden. A link to a folder that it lies in is not followed."""
    here = _identity(folder)
    if here is None or here == left_out or here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                yield from _files_below(entry.path, left_out, above | {here})
            else:
                yield entry.path


def _identity(folder: str | os.PathLike | None) -> tuple[int, int] | None:
    """What tells a folder from others, however it is spelled; None where there is none."""
    if folder is None or not os.path.isdir(folder):
        return None
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _readable(name: str) -> str:
    r"""The name of a file, with bytes that are no UTF-8 written as \xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _open_saved(folder: Path, column: str | None) -> Corpus:
    try:
        from datasets import load_from_disk

        dataset = load_from_disk(str(folder))
    except (OSError, ValueError, LookupError, TypeError, pa.ArrowException) as error:
        raise CodaxError(
            f"{folder}: is no data set that can be loaded, though it has a state.json: "
            f"{one_line(error)}"
        ) from error
    return DatasetCorpus(str(folder), dataset, column)


def _open_parquet(source: Path, paths: list[Path], column: str | None) -> Corpus:
    try:
        return ParquetCorpus(str(source), paths, column)
    except NOT_READ as error:
        raise CodaxError(told_of(source, error)) from error


def _open_manifest(path: Path, column: str | None) -> Corpus:
    lines = path.read_bytes().splitlines()
    numbered = enumerate(lines, start=1)
    rows = {number: _manifest_row(path, number, line) for number, line in numbered if line.strip()}
    if not rows:
        raise CodaxError(f"{path}: holds no clips")
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    column = audio_column(str(path), names, column)
    paths = []
    for number, row in rows.items():
        given = row.get(column)
        if not isinstance(given, str) or not given:
            raise CodaxError(f"{path}: line {number} has no path in {column!r}")
        paths.append(str(path.parent / given))
    table = pa.Table.from_arrays([_column(path, name, rows) for name in names], _names(path, names))
    return FileCorpus(str(path), paths, table, partial(_digest_of_lines, lines), column)


def _manifest_row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CodaxError(f"{path}: line {number} is no UTF-8: {error}") from error
    except (ValueError, RecursionError) as error:
        raise CodaxError(f"{path}: line {number} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise CodaxError(f"{path}: line {number} is no object")
    return row


def _column(path: Path, name: str, rows: dict[int, dict[str, Any]]) -> pa.Array:
    """What all lines of a manifest tell under a name, with nulls where they do not."""
    try:
        return pa.array([row.get(name) for row in rows.values()])
    except NOT_ARROW as error:
        reason = one_line(error)
    for number, row in rows.items():
        try:
            pa.array([row.get(name)])
        except NOT_ARROW as error:
            raise CodaxError(f"{path}: line {number}: {name!r}: {one_line(error)}") from error
    raise CodaxError(f"{path}: its clips tell things of different types in {name!r}: {reason}")


def _names(path: Path, names: list[str]) -> list[str]:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise CodaxError(f"{path}: the name {name!r}: {error}") from error
    return names


def _digest_of_lines(lines: list[bytes]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line + b"\n")
    return digest.hexdigest()


def _open_hub(
    name: str, column: str | None, split: str, config_name: str | None, revision: str | None
) -> Corpus:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise CodaxError(
            f'{name}: data sets of the Hub need datasets: pip install "codax[data]"'
        ) from error
    try:
        dataset = load_dataset(name, config_name, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = one_line(error)
        if isinstance(error, DatasetsError) and error.__cause__ is not None:
            reason += f": {one_line(error.__cause__)}"
        raise CodaxError(
            f"{name}: neither a file or folder, nor a data set that can be had: {reason}"
        ) from error
    return DatasetCorpus(name, dataset, column)
