"""What is trained on: domains of audio, each of one source or several."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import pyarrow as pa

from codax.codec.preparing import AudioSource
from codax.corpus.audio_values import audio_of, name_of
from codax.corpus.corpora import Corpus, DatasetCorpus, FileCorpus, ParquetCorpus
from codax.corpus.sources import open_corpus
from codax.errors import CodaxError, told_of
from codax.training.excerpts import Clip, ExcerptShape, open_clip

Source = str | os.PathLike | Corpus
"""What `open_corpus` takes; or a corpus, where a column, split or revision is to be named."""

BAD_CLIP = (ValueError, OSError, RuntimeError, MemoryError)
"""What reading a clip may raise that is no fault of the program."""

MOST_UNREADABLE = 100
"""Clips that may fail to be read before that is an error."""


class Domain:
    """Clips of one kind, such as speech: those of all its sources, one after the other.

    name: what it is called; corpora: its sources
    """

    def __init__(self, name: str, corpora: Sequence[Corpus]):
        self.name = name
        self._corpora = corpora
        self._ends = [*accumulate(map(len, corpora))]

    def __len__(self) -> int:
        return self._ends[-1]

    @contextmanager
    def clip(self, index: int) -> Iterator[Clip]:
        """A clip of the domain, opened.

        Raises any of `BAD_CLIP` where it cannot be read; `name` tells what it is.
        """
        source, name = self._value(index)
        with open_clip(source, name) as clip:
            yield clip

    def name_of(self, index: int) -> str:
        """The path of a clip, or its number in its source."""
        corpus, place = self._place(index)
        try:
            [(value, _)] = corpus.clips(place, place + 1)
        except BAD_CLIP:
            value = None
        return _name(value, corpus, place)

    def digest(self) -> list[str]:
        """Something that changes where the clips or their order do."""
        return [corpus.digest() for corpus in self._corpora]

    def _value(self, index: int) -> tuple[AudioSource, str]:
        corpus, place = self._place(index)
        [(value, _)] = corpus.clips(place, place + 1)
        return audio_of(value), _name(value, corpus, place)

    def _place(self, index: int) -> tuple[Corpus, int]:
        number = bisect_right(self._ends, index)
        corpus = self._corpora[number]
        return corpus, index - self._ends[number] + len(corpus)


def open_domains(domains: Mapping[str, Source | Sequence[Source]]) -> list[Domain]:
    """Open the sources of all domains.

    domains: a name -> one source or several; the order of the names does not matter
    -> the domains, by name

    Raises `CodaxError` where there is no domain, a domain has no source, or `open_corpus` refuses
    one, which is said with the domain's name.
    """
    if not domains:
        raise CodaxError("there are no domains; expected at least one, with its sources")
    return [_open_domain(name, domains[name]) for name in sorted(domains)]


def require_long_enough(domain: Domain, shape: ExcerptShape) -> None:
    """Look for a clip that an excerpt fits into, until there is one: mostly the first.

    Raises `CodaxError` where there is none, or where none of the first `MOST_UNREADABLE` can be
    read.
    """
    longest_s, first_failure, failures = 0.0, "", 0
    for index in range(len(domain)):
        try:
            with domain.clip(index) as clip:
                if shape.samples_in(clip) >= shape.num_samples:
                    return
                longest_s = max(longest_s, clip.num_samples / clip.sampling_rate)
        except BAD_CLIP as error:
            first_failure = first_failure or told_of(domain.name_of(index), error)
            failures += 1
            if failures == MOST_UNREADABLE and not longest_s:
                break
    if not longest_s:
        number = "the one clip" if failures == 1 else f"none of {failures} clips"
        can = "cannot" if failures == 1 else "can"
        raise CodaxError(f"domain {domain.name!r}: {number} {can} be read; {first_failure}")
    raise CodaxError(
        f"domain {domain.name!r}: every clip is shorter than duration_s={shape.duration_s:g}; the "
        f"longest has {longest_s:.3g} s"
    )


def _open_domain(name: str, sources: Source | Sequence[Source]) -> Domain:
    is_one = isinstance(sources, str | os.PathLike | Corpus)
    listed: Sequence[Source] = [sources] if is_one else sources  # pyright: ignore
    if not listed:
        raise CodaxError(f"domain {name!r}: has no sources; expected at least one")
    try:
        return Domain(name, [_open_source(source) for source in listed])
    except (CodaxError, OSError) as error:
        raise CodaxError(f"domain {name!r}: {told_of(None, error)}") from error


def _open_source(source: Source) -> Corpus:
    corpus = source if isinstance(source, Corpus) else open_corpus(source)
    return _at_random(corpus) if isinstance(corpus, ParquetCorpus) else corpus


def _at_random(corpus: ParquetCorpus) -> Corpus:
    """The same clips, any of which is read without its neighbours.

    A row group of Parquet, a hundred clips or more, is read as a whole; Arrow files are not.
    `datasets` makes them once, in its cache, as it does of what it loads from the Hub.
    """
    from datasets import Dataset

    if corpus.holds_paths:
        paths: list[str] = [value for value, _ in corpus.clips(0, len(corpus))]
        return FileCorpus(corpus.source, paths, pa.table({"path": paths}), corpus.digest)
    files: Any = [str(path) for path in corpus.paths]
    column: Any = corpus.column
    return DatasetCorpus(corpus.source, Dataset.from_parquet(files, columns=[column]), column)


def _name(value: object, corpus: Corpus, place: int) -> str:
    return name_of(value) or f"clip {place} of {corpus.source}"
