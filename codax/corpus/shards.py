"""The files of a job: which clips each shard has, which shards are done, and writing them whole."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codax.corpus.arrow_rows import row_table
from codax.errors import CodaxError, one_line
from codax.files import atomic_path

COMPRESSION = "zstd"

# As `datasets` finds the files of a split.
SPLIT_NAME = re.compile(r"\w+(\.\w+)*")


def name_of_split(split: str) -> str:
    """What the shards of a split are called: "train" of "train" and of "train[:10%]".

    Raises `ValueError` for a name that `datasets` would not find files by.
    """
    name = split.partition("[")[0]
    if not SPLIT_NAME.fullmatch(name):
        raise ValueError(
            f"split={split!r} must be words joined by dots, such as train or train.clean, before "
            "any [...]"
        )
    return name


class Shards:
    """Shards of a split in a folder, each with the next clips of a corpus.

    data/{split}-00003-of-00012.parquet: rows, in the order of the corpus. There is none where no
        clip of the shard could be encoded: `load_dataset` refuses a file without rows.
    skipped/{split}-00003.jsonl: in each line, the place in the corpus of a clip that could not be
        encoded (`clip`) and why (`reason`), in that order

    A shard is done where its data are there, or all of its clips are listed as skipped.

    num_clips: of the corpus; shard_clips: of a shard, but for the last
    """

    def __init__(self, output: Path, split: str, num_clips: int, shard_clips: int):
        if shard_clips < 1:
            raise ValueError(f"shard_clips={shard_clips} must be a positive number of clips")
        self.output = output
        self.skipped_folder = output / "skipped"
        self._split = name_of_split(split)
        self._num_clips = num_clips
        self._shard_clips = shard_clips

    def __len__(self) -> int:
        return -(-self._num_clips // self._shard_clips)

    def clips(self, shard: int) -> range:
        """Places of its clips in the corpus."""
        start = shard * self._shard_clips
        return range(start, min(start + self._shard_clips, self._num_clips))

    def is_done(self, shard: int) -> bool:
        return self._path(shard).exists() or self.num_skipped(shard) == len(self.clips(shard))

    def num_skipped(self, shard: int) -> int:
        path = self._skipped_path(shard)
        return len(path.read_bytes().splitlines()) if path.exists() else 0

    def write(
        self,
        shard: int,
        rows: Iterable[tuple[int, dict[str, Any]]],
        skipped: dict[int, str],
        schema: pa.Schema,
    ) -> None:
        """Rows with their places in the corpus, and the reasons by the places of the skipped.

        Raises `CodaxError` for rows whose columns Arrow does not write, `OSError` where the folder
        cannot be written.
        """
        self.write_skipped(shard, skipped)
        in_order = [row for _, row in sorted(rows, key=lambda item: item[0])]
        if not in_order:
            return
        path = self._path(shard)
        try:
            table = row_table(in_order, schema)
            with _whole(path) as temporary:
                pq.write_table(table, temporary, compression=COMPRESSION)
        except (pa.ArrowException, OverflowError) as error:
            raise CodaxError(f"{path}: cannot be written: {one_line(error)}") from error

    def write_skipped(self, shard: int, skipped: dict[int, str]) -> None:
        path = self._skipped_path(shard)
        if not skipped:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"clip": clip, "reason": skipped[clip]}) for clip in sorted(skipped)]
        with _whole(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def _path(self, shard: int) -> Path:
        return self.output / "data" / f"{self._split}-{shard:05}-of-{len(self):05}.parquet"

    def _skipped_path(self, shard: int) -> Path:
        return self.skipped_folder / f"{self._split}-{shard:05}.jsonl"


def _whole(path: Path) -> Any:
    """`atomic_path`, with a name that the next try overwrites if this one is killed."""
    return atomic_path(path, Path(os.path.join(path.parent, f".{path.name}.partial")))
