"""Work that threads do ahead of the one that needs it."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

MOST_WORKERS = 8


def default_workers() -> int:
    """Threads that read and decode audio: one for each processor that there is for them."""
    has_affinity = hasattr(os, "sched_getaffinity")
    processors = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(processors, MOST_WORKERS)


def made_ahead(
    make: Callable[[Given], Made], items: Iterable[Given], workers: int
) -> Iterator[Made]:
    """`map`, by threads that are ahead by one item each, and one more."""
    remaining = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="codax-read") as pool:
        under_way = deque(pool.submit(make, item) for item in islice(remaining, workers + 1))
        try:
            while under_way:
                made = under_way.popleft().result()
                under_way.extend(pool.submit(make, item) for item in islice(remaining, 1))
                yield made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
