"""A corpus to shards of codes, which a run that was broken off goes on with."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codax import __version__
from codax.corpus.arrow_rows import row_schema, row_table
from codax.corpus.encode_audio import EncodeAudio
from codax.corpus.places import Place
from codax.corpus.sources import Corpus
from codax.errors import CodaxError
from codax.files import atomic_path
from codax.formats import EncodedAudio

MANIFEST = "manifest.json"
CLIPS_PER_SHARD = 256
MOST_SKIPPED = 100

COMPRESSION = "zstd"


@dataclasses.dataclass
class Progress:
    """What a job has done so far.

    clips, skipped: of all, those of earlier runs included; total: how many clips there are to do
    audio_s: seconds of audio that this run has encoded; elapsed_s: seconds that it took
    """

    total: int
    clips: int = 0
    skipped: int = 0
    audio_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def speed(self) -> float:
        """Seconds of audio in a second, the real-time factor."""
        return self.audio_s / self.elapsed_s if self.elapsed_s else 0.0


class TokenizeJob:
    """Encodes a corpus into Parquet files of a folder.

    data/{split}-00003-of-00012.parquet: the rows that `EncodeAudio` makes, in the order of the
        corpus, each with what the corpus tells of it; `load_dataset(folder)` opens them
    skipped/{split}-00003.jsonl: clips of that shard that could not be encoded, with the reason
    manifest.json: the model, its revision, all options, the corpus

    A shard appears when it is whole. A run that was killed is gone on with by doing the same again:
    what is there is left as it is, and the files end up with the same bytes. Shards do not depend
    on each other, so several processes may share the work (`place`), on one machine or many.

    shard_clips: clips in a shard; what is lost when a run is killed
    most_skipped: clips that may fail before the job does, in all runs
    place: of this process among those that share the work, which `this_place` tells; alone by
        default
    split: the name that the data set's split gets
    """

    def __init__(
        self,
        corpus: Corpus,
        encode: EncodeAudio,
        output: str | os.PathLike,
        shard_clips: int = CLIPS_PER_SHARD,
        most_skipped: int = MOST_SKIPPED,
        place: Place | None = None,
        split: str = "train",
    ):
        if shard_clips < 1:
            raise ValueError(f"shard_clips={shard_clips} must be a positive number of clips")
        self.output = Path(output)
        self._corpus = corpus
        self._encode = encode
        self._most_skipped = most_skipped
        self._split = split
        self._starts = range(0, len(corpus), shard_clips)
        rank, world_size = place or (0, 1)
        self._shards = range(rank, len(self._starts), world_size)
        self._shard_clips = shard_clips
        own = row_schema(encode.named.config())
        kept = [field for field in corpus.schema if field.name not in own.names]
        self._schema = pa.schema([*kept, *own])

    def run(self, tell: Callable[[Progress], None] = lambda _: None) -> Progress:
        """Do what is not done yet. tell: called after every clip

        Raises `CodaxError` where the folder holds codes made with another model, other options or
        of another corpus, and where too many clips had to be skipped; `OSError` where the folder
        cannot be written.
        """
        self._prepare_folder()
        done = [shard for shard in self._shards if self._path(shard).exists()]
        todo = [shard for shard in self._shards if not self._path(shard).exists()]
        progress = Progress(
            total=sum(map(self._size, self._shards)),
            clips=sum(map(self._size, done)),
            skipped=sum(map(self._num_skipped, done)),
        )
        began = time.monotonic()

        def advance(clip: EncodedAudio | Exception) -> None:
            progress.clips += 1
            progress.elapsed_s = time.monotonic() - began
            if isinstance(clip, EncodedAudio):
                progress.audio_s += clip.duration_s
            else:
                progress.skipped += 1
            tell(progress)

        tell(progress)
        prepared = self._encode.prepared(self._items(todo))
        by_shard = groupby(prepared, key=lambda item: item[0].shard)
        for shard, items in by_shard:
            rows, skipped = [], []
            for key, clip in self._encode.encoded_clips(items):
                advance(clip)
                if isinstance(clip, EncodedAudio):
                    rows.append((key.index, {**key.told, **self._encode.row_of(clip)}))
                else:
                    skipped.append((key.index, {"clip": key.index, "reason": str(clip)}))
                if progress.skipped > self._most_skipped:
                    self._write_skipped(shard, skipped)
                    raise CodaxError(
                        f"{progress.skipped} clips could not be encoded, allowed: "
                        f"{self._most_skipped}; the last one: {clip} (all: {self._skipped_folder})"
                    )
            self._write_skipped(shard, skipped)
            self._write(shard, rows)
        return progress

    def _items(self, shards: Iterable[int]) -> Iterator[tuple["_Key", Any]]:
        for shard in shards:
            start = self._starts[shard]
            clips = self._corpus.clips(start, start + self._size(shard))
            for index, (value, told) in enumerate(clips, start):
                yield _Key(shard, index, told), value

    def _size(self, shard: int) -> int:
        start = self._starts[shard]
        return min(self._shard_clips, len(self._corpus) - start)

    def _path(self, shard: int) -> Path:
        return self.output / "data" / f"{self._split}-{shard:05}-of-{len(self._starts):05}.parquet"

    @property
    def _skipped_folder(self) -> Path:
        return self.output / "skipped"

    def _skipped_path(self, shard: int) -> Path:
        return self._skipped_folder / f"{self._split}-{shard:05}.jsonl"

    def _num_skipped(self, shard: int) -> int:
        path = self._skipped_path(shard)
        return len(path.read_text().splitlines()) if path.exists() else 0

    def _write(self, shard: int, rows: list[tuple[int, dict]]) -> None:
        in_order = [row for _, row in sorted(rows, key=lambda item: item[0])]
        table = row_table(in_order, self._schema)
        with _whole(self._path(shard)) as path:
            pq.write_table(table, path, compression=COMPRESSION)

    def _write_skipped(self, shard: int, skipped: list[tuple[int, dict]]) -> None:
        path = self._skipped_path(shard)
        if not skipped:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(line) for _, line in sorted(skipped, key=lambda item: item[0])]
        with _whole(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def _prepare_folder(self) -> None:
        """Write the manifest, or find that the one that is there is the same."""
        path = self.output / MANIFEST
        manifest = self._manifest()
        if path.exists():
            self._require_same(path, manifest)
            return
        (self.output / "data").mkdir(parents=True, exist_ok=True)
        if any((self.output / "data").glob("*.parquet")):
            raise CodaxError(f"{self.output}: holds Parquet files, but no {MANIFEST}")
        with _whole(path) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2) + "\n")

    def _require_same(self, path: Path, manifest: dict[str, Any]) -> None:
        try:
            there = json.loads(path.read_text())
            differing = [name for name in manifest if there[name] != manifest[name]]
        except (ValueError, KeyError, TypeError) as error:
            raise CodaxError(f"{path}: is no manifest of codax") from error
        differing = [name for name in differing if name != "codax"]
        if differing:
            told = "; ".join(
                f"{name} {there[name]!r}, now {manifest[name]!r}" for name in differing
            )
            raise CodaxError(f"{self.output}: holds codes that were made otherwise: {told}")

    def _manifest(self) -> dict[str, Any]:
        encode = self._encode
        config = encode.named.codec().config  # which tells the commit that was loaded, of any name
        how = encode.preparation()
        return {
            "codax": __version__,
            "model": encode.named.model,
            "revision": encode.named.content or getattr(config, "_commit_hash", None),
            "model_type": config.model_type,
            "codebook_size": config.codebook_size,
            "frame_rate": config.sampling_rate / config.hop_length,
            "n_quantizers": encode.n_quantizers,
            "bandwidth": encode.bandwidth,
            "chunk_length_s": encode.chunk_length_s,
            "batch_length_s": encode.batch_length_s,
            **dataclasses.asdict(how),
            "source": self._corpus.source,
            "source_digest": self._corpus.digest(),
            "clips": len(self._corpus),
            "clips_per_shard": self._shard_clips,
            "shards": len(self._starts),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class _Key:
    """Which clip: of which shard, at which place of the corpus, and what is told of it."""

    shard: int
    index: int
    told: dict[str, Any]


def _whole(path: Path) -> Any:
    """`atomic_path`, with a name that the next try overwrites if this one is killed."""
    return atomic_path(path, path.with_name(f".{path.name}.partial"))
