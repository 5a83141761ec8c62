"""Batches of excerpts, made while the model trains.

Item i of the stream depends on the seed and on i alone: on no other item, nor on who makes it or
when. So a run that was broken off goes on with the batch that would have come next, and several
hosts make each their part of the same batches.
"""

import sys
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise
from typing import Any, cast

import grain
import numpy as np
from transformers.utils import logging

from codax.corpus.prefetch import default_workers, made_ahead
from codax.errors import CodaxError, told_of
from codax.training.domains import (
    BAD_CLIP,
    MOST_UNREADABLE,
    Source,
    open_domains,
    require_long_enough,
)
from codax.training.excerpts import LOUDNESS_CUTOFF_DB, ExcerptShape, salient_excerpt
from codax.training.transforms import Transform, transformed

logger = logging.get_logger(__name__)

MOST_DRAWS = 8
"""Clips that are drawn for one item, where those before cannot be read."""

BATCHES_AHEAD = 2
"""That threads have made, or are making, while the model trains on another."""

VALIDATION_DURATION_S = 5.0
MOST_VALIDATION_EXCERPTS = 250
"""Both as in DAC's training (descript-audio-codec, `conf/base.yml`)."""


@dataclass(frozen=True)
class Excerpt:
    """samples: float32 [C, T]; domain: its name; clip: the path of the clip, or its number."""

    samples: np.ndarray
    domain: str
    clip: str


class ExcerptStream:
    """An endless stream of excerpts, of which any can be made by itself, in any thread.

    Domains take turns, in fixed proportions whatever their sizes; in each, every clip comes once,
    in an order drawn by chance, before any comes again. A clip that cannot be read is told of once,
    and another of its domain drawn in its place.

    domains: a name -> one source or several (`open_domains`)
    weights: a name -> how often a domain comes, positive, in relation to others; all alike by
        default. Kept to a hundredth of the smallest.
    transforms: applied to each excerpt, in this order: `DAC_TRANSFORMS`, or none, as for EnCodec
    seed: an integer of 0 or more
    loudness_cutoff_db: as `salient_excerpt` takes it; None for EnCodec, whose training (audiocraft)
        takes any excerpt
    most_unreadable: clips that may fail to be read
    allow_short: pad clips that are all shorter than an excerpt, rather than refuse the domain

    Raises `CodaxError` for domains without clips that can be read, for one whose clips are all
    shorter than an excerpt, and for weights of other domains than there are; `ValueError` for a
    seed or weight that is not allowed.
    """

    def __init__(
        self,
        domains: Mapping[str, Source | Sequence[Source]],
        shape: ExcerptShape,
        *,
        weights: Mapping[str, float] | None = None,
        transforms: Sequence[Transform] = (),
        seed: int = 0,
        loudness_cutoff_db: float | None = LOUDNESS_CUTOFF_DB,
        most_unreadable: int = MOST_UNREADABLE,
        allow_short: bool = False,
    ):
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ValueError(f"seed={seed!r} must be an integer of 0 or more")
        self.shape = shape
        self.seed = int(seed)
        proportions = _checked_weights(weights, domains)
        self.domains = open_domains(domains)
        if not allow_short:
            for domain in self.domains:
                require_long_enough(domain, shape)
        self._transforms = tuple(transforms)
        self._loudness_cutoff_db = loudness_cutoff_db
        self._unreadable = _Unreadable(most_unreadable)
        self._ends = [*accumulate(map(len, self.domains))]
        self._picks = self._shuffled(proportions)

    @property
    def num_clips(self) -> int:
        """Of all domains."""
        return self._ends[-1]

    def item(self, index: int) -> Excerpt:
        """Item `index`, 0 or more.

        Raises `CodaxError`, which names a clip, where `MOST_DRAWS` clips in a row or more than
        `most_unreadable` in all cannot be read, or a transform fails.
        """
        number = cast("int", self._picks[index])
        rank = bisect_right(self._ends, number)
        domain, place = self.domains[rank], number - self._ends[rank] + len(self.domains[rank])
        for draw in range(MOST_DRAWS):
            generator = np.random.default_rng((self.seed, index, draw))
            try:
                with domain.clip(place) as clip:
                    samples = salient_excerpt(clip, self.shape, generator, self._loudness_cutoff_db)
                    name = clip.name
            except BAD_CLIP as error:
                reason = told_of(domain.name_of(place), error)
                self._unreadable.tell((rank, place), reason)
                place = int(generator.integers(len(domain)))
                continue
            return Excerpt(self._transformed(samples, name, generator), domain.name, name)
        raise CodaxError(
            f"domain {domain.name!r}: {MOST_DRAWS} clips in a row cannot be read, the last of "
            f"which is {reason}"
        )

    @cached_property
    def digest(self) -> dict[str, list[str]]:
        """A name of a domain -> something that changes where its clips or their order do."""
        return {domain.name: domain.digest() for domain in self.domains}

    def _transformed(
        self, samples: np.ndarray, name: str, generator: np.random.Generator
    ) -> np.ndarray:
        try:
            rate = self.shape.sampling_rate
            return transformed(samples, rate, self._transforms, generator)
        except Exception as error:
            raise CodaxError(f"{name}: cannot be transformed: {told_of(None, error)}") from error

    def _shuffled(self, proportions: Sequence[float] | None) -> grain.MapDataset[int]:
        """Numbers of clips, over all domains: each domain shuffled anew in every epoch, and mixed.

        domain 0   | 0 1 2 |            -> 1 0 2 0 2 1 ..
        domain 1           | 3 4 5 6 |  -> 5 3 6 4 6 5 ..     mixed: 1 5 0 3 2 6 0 4 2 6 1 5 ..
        """
        ranges = enumerate(pairwise([0, *self._ends]))
        orders = [_order(start, stop, (self.seed, rank)) for rank, (start, stop) in ranges]
        endless = grain.MapDataset.range(sys.maxsize)
        picks = grain.MapDataset.mix([endless.map(order) for order in orders], proportions)
        picks[0]  # makes what grain makes at the first access, which threads must not do at once
        return picks


class TrainingBatches(Iterator[np.ndarray]):
    """Batches float32 [B, C, T] of a stream, without end.

    stream: where the excerpts are from
    batch_size: of all hosts together
    workers: threads that read ahead; 0 for none; by default one for each processor, up to eight
    process_index, process_count: which of the hosts that train together this is
        (`jax.process_index()`, `jax.process_count()`); each gets B = batch_size / process_count
        rows, in order: those of all hosts, one after the other, are the batch of one host alone

    Raises `ValueError` for numbers that are not allowed. `next` raises what `ExcerptStream.item`
    does, and may be called again: it goes on with the batch that failed.
    """

    # Threads rather than processes: libsndfile, soxr and NumPy let go of the interpreter while they
    # work, excerpts need no pickling, and no process is forked from one that runs JAX.

    def __init__(
        self,
        stream: ExcerptStream,
        batch_size: int,
        *,
        workers: int | None = None,
        process_index: int = 0,
        process_count: int = 1,
    ):
        if process_count < 1 or not 0 <= process_index < process_count:
            raise ValueError(
                f"process_index={process_index} must be 0 or more, and less than "
                f"process_count={process_count}"
            )
        if batch_size < 1 or batch_size % process_count:
            raise ValueError(
                f"batch_size={batch_size} must be a positive multiple of the {process_count} "
                "processes"
            )
        if workers is not None and workers < 0:
            raise ValueError(f"workers={workers} must be 0 or more threads, or None")
        self.stream = stream
        self.batch_size = int(batch_size)
        self._rows = self.batch_size // process_count
        self._first_row = process_index * self._rows
        self._workers = default_workers() if workers is None else workers
        self._position = 0  # items of all hosts that were given out
        self._batches: Any = None

    def __next__(self) -> np.ndarray:
        if self._batches is None:
            self._batches = iter(self._batches_from(self._position))
        try:
            batch = next(self._batches)
        except BaseException:
            self.close()
            raise
        self._position += self.batch_size
        return batch

    def get_state(self) -> dict[str, Any]:
        """Where the next batch begins, as JSON has it; the same on all hosts.

        It holds for other batch sizes and numbers of hosts too.
        """
        return {
            "items": self._position,
            "seed": self.stream.seed,
            "domains": self.stream.digest,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on where `get_state` was called.

        Warns where the domains have other clips than they had, so that others come next. Raises
        `CodaxError` for what is no state, or that of another seed.
        """
        try:
            items, seed, domains = state["items"], state["seed"], state["domains"]
        except (KeyError, TypeError) as error:
            raise CodaxError(
                "no state of training data: expected items, seed and domains, as get_state() gives"
            ) from error
        if isinstance(items, bool) or not isinstance(items, int) or items < 0:
            raise CodaxError(f"a state of training data has items={items!r}, allowed: 0 or more")
        if seed != self.stream.seed:
            raise CodaxError(
                f"the state of training data is of seed {seed}, but this is {self.stream.seed}: "
                "give the same seed, or begin without the state"
            )
        if domains != self.stream.digest:
            logger.warning(
                "The clips to train on are not those of the run that is gone on with: its next "
                "batch is another than it would have been."
            )
        self.close()
        self._position = items

    def close(self) -> None:
        """End the threads. `next` starts others."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None

    def __enter__(self) -> "TrainingBatches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batches_from(self, position: int) -> grain.IterDataset[np.ndarray]:
        """The rows of this host, of all batches from an item on.

        items      | 0 1 2 3 4 5 | 6 7 8 9 10 11 | ..
        of host 1        | 3 4 5 |      | 9 10 11 | ..
        """

        def samples(local: int) -> np.ndarray:
            batch, row = divmod(local, self._rows)
            index = position + batch * self.batch_size + self._first_row + row
            return self.stream.item(index).samples

        ahead = max(BATCHES_AHEAD * self._rows, self._workers)
        read = grain.ReadOptions(self._workers, ahead if self._workers else 0)
        items = grain.MapDataset.range(sys.maxsize).map(samples)
        return items.to_iter_dataset(read).batch(self._rows, batch_fn=np.stack)


def validation_excerpts(
    domains: Mapping[str, Source | Sequence[Source]],
    shape: ExcerptShape,
    *,
    count: int | None = None,
    most: int = MOST_VALIDATION_EXCERPTS,
    transforms: Sequence[Transform] = (),
    seed: int = 0,
    loudness_cutoff_db: float | None = LOUDNESS_CUTOFF_DB,
    workers: int | None = None,
) -> list[Excerpt]:
    """Excerpts to validate by, the same every time, from all domains equally often.

    shape: with `VALIDATION_DURATION_S`, unless other lengths are wanted; shorter clips end in
        silence
    count: how many; by default one for each clip there is, `most` at most
    others: as of `ExcerptStream` and `TrainingBatches`

    Raises as `ExcerptStream` does, and `ValueError` for a count that is not positive.
    """
    if count is not None and count < 1:
        raise ValueError(f"count={count} must be positive, or None")
    stream = ExcerptStream(
        domains,
        shape,
        transforms=transforms,
        seed=seed,
        loudness_cutoff_db=loudness_cutoff_db,
        allow_short=True,
    )
    indices = range(count or min(stream.num_clips, most))
    return [*made_ahead(stream.item, indices, workers or default_workers())]


def _order(start: int, stop: int, seed: tuple[int, ...]) -> Callable[[int], int]:
    """Place in an endless order -> number from `start` to before `stop`.

    Permutations are NumPy's: grain's `shuffle` computes each place by itself, which takes it 20 ms
    where there are two clips, and 0.1 ms where there are 1000.
    """

    @lru_cache(maxsize=2)  # threads read ahead into the next epoch
    def permutation(epoch: int) -> np.ndarray:
        return np.random.default_rng((*seed, epoch)).permutation(np.arange(start, stop))

    def number(place: int) -> int:
        epoch, within = divmod(place, stop - start)
        return int(permutation(epoch)[within])

    return number


class _Unreadable:
    """Clips that could not be read, told of once. Threads share it."""

    def __init__(self, most: int):
        self._most = most
        self._told: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def tell(self, key: tuple[int, int], reason: str) -> None:
        """Warn, or raise `CodaxError` where there are too many. key: (domain, clip)"""
        with self._lock:
            is_new = key not in self._told
            self._told.add(key)
            count = len(self._told)
        if count > self._most:
            raise CodaxError(
                f"{count} clips cannot be read, but at most {self._most} may; the last is {reason}"
            )
        if is_new:
            logger.warning(f"Another clip is drawn in place of one that cannot be read: {reason}")


def _checked_weights(
    weights: Mapping[str, float] | None, domains: Mapping[str, Any]
) -> list[float] | None:
    """By the domains' names, in their order."""
    if weights is None:
        return None
    names = sorted(domains)
    for name in weights:
        if name not in domains:
            raise CodaxError(f"weights: there is no domain {name!r}, but {', '.join(names)}")
    for name in names:
        weight = weights.get(name)
        if weight is None:
            raise CodaxError(f"weights: there is none for domain {name!r}")
        if not 0 < weight < float("inf"):
            raise ValueError(f"weights: {name!r} has {weight}, allowed: positive numbers")
    return [float(weights[name]) for name in names]
