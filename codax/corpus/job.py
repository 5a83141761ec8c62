"""A corpus to shards of codes, which a run that was broken off goes on with."""

import dataclasses
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from codax import __version__
from codax.corpus.arrow_rows import row_schema
from codax.corpus.corpora import Corpus
from codax.corpus.encode_audio import EncodeAudio
from codax.corpus.job_manifest import JobManifest
from codax.corpus.places import Place
from codax.corpus.shards import Shards
from codax.errors import CodaxError
from codax.formats import EncodedAudio

CLIPS_PER_SHARD = 256
MOST_SKIPPED = 100


@dataclasses.dataclass
class Progress:
    """What a job has done so far, of the shards of its process.

    clips, skipped: of all, those of earlier runs included; total: how many clips there are to do
    earlier: clips of earlier runs
    audio_s: seconds of audio that this run has encoded; elapsed_s: seconds that it took
    """

    total: int
    clips: int = 0
    skipped: int = 0
    earlier: int = 0
    audio_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def speed(self) -> float:
        """Seconds of audio in a second, the real-time factor."""
        return self.audio_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the other clips take, at the pace of this run; None before it has one."""
        done = self.clips - self.earlier
        return (self.total - self.clips) * self.elapsed_s / done if done else None


class TokenizeJob:
    """Encodes a corpus into Parquet files of a folder.

    data/{split}-00003-of-00012.parquet: the rows that `EncodeAudio` makes, in the order of the
        corpus, each with what the corpus tells of it; `load_dataset(folder)` opens them. A shard
        none of whose clips could be encoded has no such file.
    skipped/{split}-00003.jsonl: clips of that shard that could not be encoded, with the reason
    manifest.json: the model, its revision, all options, the corpus and its digest

    A shard appears when it is whole. A run that was killed is gone on with by doing the same again:
    what is there is left as it is, and the files end up with the same bytes. Shards do not depend
    on each other, so several processes may share the work (`place`), on one machine or many.

    shard_clips: clips in a shard; what is lost when a run is killed
    most_skipped: clips that may fail before the job does, in the shards of this process and in all
        runs
    place: of this process among those that share the work, which `this_place` tells; alone by
        default
    split: the name that the data set's split gets, up to a "["

    Raises `ValueError` for a `split` that `datasets` would not find, for a `shard_clips` below 1
    and a `most_skipped` below 0.
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
        if most_skipped < 0:
            raise ValueError(f"most_skipped={most_skipped} must be a number of clips, or 0")
        self.output = Path(output)
        self._corpus = corpus
        self._encode = encode
        self._most_skipped = most_skipped
        self._split = split
        self._shard_clips = shard_clips
        self._shards = Shards(self.output, split, len(corpus), shard_clips)
        rank, world_size = place or (0, 1)
        self._own = range(rank, len(self._shards), world_size)
        own = row_schema(encode.named.config())
        kept = [field for field in corpus.schema if field.name not in own.names]
        self._schema = pa.schema([*kept, *own])

    @property
    def skipped_folder(self) -> Path:
        """Where the clips are listed that could not be encoded."""
        return self._shards.skipped_folder

    def run(self, tell: Callable[[Progress], None] = lambda _: None) -> Progress:
        """Do what is not done yet. tell: called at the start, and after every clip

        Raises `CodaxError` where the folder holds codes made with another model, other options or
        of another corpus, and where too many clips had to be skipped; `ValueError` for options that
        the model does not have; `OSError` where the folder cannot be written.
        """
        deque(self._encode.encoded_clips(()), maxlen=0)  # refuses options before anything is there
        manifest = JobManifest(self.output, self._facts())
        manifest.settle()
        todo = [shard for shard in self._own if not self._shards.is_done(shard)]
        progress = self._progress(todo)
        tell(progress)
        began = time.monotonic()

        def note(clip: EncodedAudio | Exception) -> None:
            progress.clips += 1
            progress.elapsed_s = time.monotonic() - began
            if isinstance(clip, EncodedAudio):
                progress.audio_s += clip.duration_s
            else:
                progress.skipped += 1
            tell(progress)

        prepared = self._encode.prepared(self._items(todo))
        for shard, items in groupby(prepared, key=lambda item: item[0].shard):
            rows, skipped = self._encoded(shard, items, note, progress)
            manifest.require_same()  # which another run may have replaced before the first shard
            self._shards.write(shard, rows, skipped, self._schema)
        return progress

    def _progress(self, todo: list[int]) -> Progress:
        """Of earlier runs. Raises `CodaxError` where they skipped more clips than are allowed."""
        left = set(todo)
        done = [shard for shard in self._own if shard not in left]
        clips = sum(len(self._shards.clips(shard)) for shard in done)
        skipped = sum(map(self._shards.num_skipped, done))
        if skipped > self._most_skipped:
            raise CodaxError(
                f"{skipped} clips could not be encoded in earlier runs, allowed: "
                f"{self._most_skipped} (all: {self.skipped_folder})"
            )
        total = sum(len(self._shards.clips(shard)) for shard in self._own)
        return Progress(total, clips, skipped, earlier=clips)

    def _items(self, shards: Iterable[int]) -> Iterator[tuple["_Key", Any]]:
        for shard in shards:
            places = self._shards.clips(shard)
            clips = self._corpus.clips(places.start, places.stop)
            for place, (value, columns) in zip(places, clips, strict=True):
                yield _Key(shard, place, columns), value

    def _encoded(
        self,
        shard: int,
        items: Iterable[tuple["_Key", Any]],
        note: Callable[[EncodedAudio | Exception], None],
        progress: Progress,
    ) -> tuple[list[tuple[int, dict[str, Any]]], dict[int, str]]:
        """The clips of a shard -> rows and reasons, as `Shards.write` takes them."""
        rows, skipped = [], {}
        for key, clip in self._encode.encoded_clips(items):
            note(clip)
            if isinstance(clip, EncodedAudio):
                rows.append((key.place, {**key.columns, **self._encode.row_of(clip)}))
                continue
            skipped[key.place] = str(clip)
            if progress.skipped > self._most_skipped:
                self._shards.write_skipped(shard, skipped)
                raise CodaxError(
                    f"{progress.skipped} clips could not be encoded, allowed: "
                    f"{self._most_skipped}; the last one: {clip} (all: {self.skipped_folder})"
                )
        return rows, skipped

    def _facts(self) -> dict[str, Any]:
        """The manifest's content."""
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
            "sampling_rate_of_arrays": encode.sampling_rate,
            "source": self._corpus.source,
            "source_digest": self._corpus.digest(),
            "column": self._corpus.column,
            "split": self._split,
            "clips": len(self._corpus),
            "clips_per_shard": self._shard_clips,
            "shards": len(self._shards),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class _Key:
    """Which clip: of which shard, at which place of the corpus, with which other columns."""

    shard: int
    place: int
    columns: dict[str, Any]
