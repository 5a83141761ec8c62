"""Work that threads do ahead: in order, not too far, and without an end that hangs."""

import threading
import time
from itertools import count

import pytest

from codax.corpus.prefetch import default_workers, made_ahead

# For what must not happen; what must happen is waited for up to a hundred times as long.
MOMENT_S = 0.05

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


def codax_threads():
    return [one for one in threading.enumerate() if one.name.startswith("codax-read")]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    def later_first(item):
        time.sleep((7 - item) * MOMENT_S / 10)
        return item

    assert list(made_ahead(later_first, range(8), workers)) == [*range(8)]
    assert list(made_ahead(later_first, [], workers)) == []


def test_several_threads_work_at_once():
    together = threading.Barrier(3, timeout=100 * MOMENT_S)
    assert len(list(made_ahead(lambda _: together.wait(), range(3), workers=3))) == 3


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_made_ahead_than_one_item_for_each_thread_and_one(workers):
    taken = []
    items = (taken.append(index) or index for index in count())
    results = made_ahead(lambda item: item, items, workers)
    for wanted in range(4):
        assert next(results) == wanted
        time.sleep(MOMENT_S)
        assert len(taken) <= wanted + 1 + workers + 1
    results.close()


def test_nothing_is_taken_before_the_first_is_wanted():
    items = iter(range(3))
    made_ahead(lambda item: item, items, 2)
    assert next(items) == 0


def test_an_error_comes_in_the_place_of_its_item_and_ends_the_threads():
    def make(item):
        if item == 2:
            raise KeyError("two")
        return item

    results = made_ahead(make, count(), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="two"):
        next(results)
    assert not codax_threads()


def test_an_error_of_the_items_is_told():
    def items():
        yield 0
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(made_ahead(lambda item: item, items(), 2))
    assert not codax_threads()


def test_stopping_early_waits_for_nothing_but_what_is_being_made():
    made = []

    def make(item):
        made.append(item)
        time.sleep(MOMENT_S)
        return item

    results = made_ahead(make, range(1000), 2)
    assert next(results) == 0
    results.close()
    assert not codax_threads()
    assert len(made) <= 5


def test_there_are_as_many_threads_as_processors_up_to_eight(monkeypatch):
    for processors, workers in ((1, 1), (6, 6), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)))
        assert default_workers() == workers
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert default_workers() == 1
