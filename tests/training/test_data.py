"""Streams and batches of excerpts: the same for everyone, from the same seed, at any time."""

import json
import threading
from collections import Counter

import numpy as np
import pytest
from transformers.utils import logging

from codax import CodaxError
from codax.training.data import ExcerptStream, TrainingBatches, validation_excerpts
from codax.training.excerpts import ExcerptShape
from codax.training.transforms import DAC_TRANSFORMS

from .clips import noise, write

RATE = 8000
SHAPE = ExcerptShape(RATE, 1, 0.1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Domains of one, three and five clips; of the last, at another rate and in stereo."""
    folder = tmp_path_factory.mktemp("domains")
    shapes = {"music": (1, 1, RATE), "noise": (3, 1, RATE), "speech": (5, 2, 11025)}
    for name, (count, channels, rate) in shapes.items():
        for number in range(count):
            samples = noise(channels, 3 * rate + number, seed=count + number)
            write(folder / name / f"{number}.wav", samples, rate)
    return {name: folder / name for name in shapes}


def stream_of(domains, **options):
    return ExcerptStream(domains, SHAPE, **{"transforms": DAC_TRANSFORMS, **options})


@pytest.fixture(scope="module")
def stream(folders):
    return stream_of(folders)


@pytest.fixture(scope="module")
def first_batches(stream):
    """Four batches of six, made item by item: float32 [4, 6, 1, T]."""
    return np.reshape([stream.item(index).samples for index in range(24)], (4, 6, 1, 800))


def taken(stream, count=4, batch_size=6, workers=0, **options):
    with TrainingBatches(stream, batch_size, workers=workers, **options) as batches:
        return np.stack([next(batches) for _ in range(count)])


# --- the same items for everyone -----------------------------------------------------------------


def test_excerpts_have_the_shape_of_the_model(first_batches):
    assert first_batches.dtype == np.float32
    assert np.abs(first_batches).max() <= 1.5  # at most 1 before the phase is shifted
    assert len(np.unique(first_batches[..., 0, 0])) == 24  # no two alike


def test_an_item_depends_on_seed_and_index_alone(folders, stream, first_batches):
    backwards = stream_of(dict(reversed(folders.items())))
    for index in (23, 5, 0):
        np.testing.assert_array_equal(
            backwards.item(index).samples, first_batches.reshape(24, 1, 800)[index]
        )
    other = stream_of(folders, seed=1)
    assert not np.array_equal(other.item(5).samples, stream.item(5).samples)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_items_in_order_whoever_makes_them(stream, first_batches, workers):
    np.testing.assert_array_equal(taken(stream, workers=workers), first_batches)


def test_excerpts_are_made_by_threads_where_there_are_workers(folders):
    makers = set()

    def recorded(samples, sampling_rate, generator):
        makers.add(threading.current_thread())
        return samples

    recording = stream_of(folders, transforms=[recorded])
    taken(recording, count=1, workers=0)
    assert makers == {threading.main_thread()}
    taken(recording, count=1, workers=2)
    assert len(makers) > 1


@pytest.mark.parametrize("count", [2, 3])
def test_several_hosts_together_make_the_batches_of_one(stream, first_batches, count):
    parts = [taken(stream, process_index=index, process_count=count) for index in range(count)]
    assert parts[0].shape == (4, 6 // count, 1, 800)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), first_batches)


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_goes_on_with_the_next_batch(folders, stream, first_batches, workers):
    with TrainingBatches(stream, 6, workers=workers) as batches:
        for _ in range(2):
            next(batches)
        state = json.loads(json.dumps(batches.get_state()))
    with TrainingBatches(stream_of(folders), 6, workers=workers) as batches:
        next(batches)  # what was read ahead does not come again
        batches.set_state(state)
        np.testing.assert_array_equal(next(batches), first_batches[2])
        np.testing.assert_array_equal(next(batches), first_batches[3])


def test_a_run_goes_on_with_other_hosts_and_batches(stream, first_batches):
    batches = TrainingBatches(stream, 6, workers=0, process_index=1, process_count=3)
    next(batches)
    resumed = TrainingBatches(stream, 4, workers=0)
    resumed.set_state(batches.get_state())
    np.testing.assert_array_equal(next(resumed), first_batches.reshape(24, 1, 800)[6:10])


def test_states_of_other_runs_are_refused_or_told_of(folders, stream, monkeypatch):
    batches = TrainingBatches(stream, 6)
    state = batches.get_state()
    for wrong, message in (
        ({**state, "seed": 7}, "is of seed 7, but this is 0"),
        ({**state, "items": -1}, "items=-1"),
        ({"items": 0}, "no state of training data"),
        (None, "no state of training data"),
    ):
        with pytest.raises(CodaxError, match=message):
            batches.set_state(wrong)
    told = warnings_of(monkeypatch)
    batches.set_state(state)
    assert not told
    TrainingBatches(stream_of({"noise": folders["noise"]}), 6).set_state(state)
    assert len(told) == 1
    assert "The clips to train on are not those" in told[0]


def warnings_of(monkeypatch):
    told = []
    monkeypatch.setattr(logging.get_logger("codax.training.data"), "warning", told.append)
    return told


# --- balance -------------------------------------------------------------------------------------


def drawn(stream, count):
    return [stream.item(index) for index in range(count)]


@pytest.fixture(scope="module")
def sixty(stream):
    return drawn(stream, 60)


def test_every_domain_comes_equally_often_whatever_its_size(sixty):
    for start in range(0, 60, 3):
        domains = [item.domain for item in sixty[start : start + 3]]
        assert sorted(domains) == ["music", "noise", "speech"]


def test_every_clip_of_a_domain_comes_once_before_any_comes_again(sixty):
    clips = [item.clip for item in sixty if item.domain == "speech"]
    epochs = [clips[start : start + 5] for start in range(0, 20, 5)]
    assert all(len(set(epoch)) == 5 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # in another order


def test_weights_are_kept_to(folders):
    weights = {"music": 1, "noise": 0.5, "speech": 2.5}
    weighted = stream_of(folders, weights=weights, transforms=())
    counts = Counter(item.domain for item in drawn(weighted, 80))
    assert counts == {"music": 20, "noise": 10, "speech": 50}


# --- what cannot be read -------------------------------------------------------------------------


@pytest.fixture
def half_damaged(tmp_path):
    for number in range(3):
        write(tmp_path / f"good {number}.wav", noise(1, RATE), RATE)
        (tmp_path / f"bad {number}.wav").write_text("no audio")
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_cannot_be_read_is_told_of_once_and_replaced(
    half_damaged, monkeypatch, workers
):
    told = warnings_of(monkeypatch)
    batches = taken(stream_of({"noise": half_damaged}), workers=workers)
    assert len(told) == 3
    assert all(any(f"bad {number}.wav: cannot be" in line for line in told) for number in range(3))
    assert np.abs(batches).max(axis=(-2, -1)).min() > 0.1  # each is an excerpt
    again = taken(stream_of({"noise": half_damaged}))
    np.testing.assert_array_equal(again, batches)


def test_too_many_clips_that_cannot_be_read_are_an_error(half_damaged):
    limited = stream_of({"noise": half_damaged}, most_unreadable=2)
    with pytest.raises(CodaxError, match=r"3 clips cannot be read, but at most 2 may; .*bad \d"):
        drawn(limited, 20)


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_are_gone_are_an_error_that_names_one(tmp_path, workers):
    path = write(tmp_path / "clip.wav", noise(1, RATE), RATE)
    stream = stream_of({"noise": tmp_path})
    with TrainingBatches(stream, 2, workers=workers) as batches:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(CodaxError, match=r"'noise': 8 clips in a row .*clip\.wav: No such"):
            next(batches)
        path.write_bytes(content)
        expected = [stream.item(index).samples for index in range(2)]
        np.testing.assert_array_equal(next(batches), expected)  # of the batch that failed


def test_a_transform_that_fails_is_an_error_that_names_the_clip(folders):
    def broken(samples, sampling_rate, generator):
        raise KeyError("effect")

    stream = stream_of({"music": folders["music"]}, transforms=[broken])
    with pytest.raises(CodaxError, match=r"0\.wav: cannot be transformed: 'effect'"):
        taken(stream, workers=2)


# --- what is refused early -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"music": 1, "nose": 1}}, "no domain 'nose', but music, noise, speech"),
        ({"weights": {"music": 1, "noise": 1}}, "there is none for domain 'speech'"),
        ({"weights": {"music": 1, "noise": 0, "speech": 1}}, "'noise' has 0"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"seed": 0.5}, r"seed=0\.5 must be"),
    ],
)
def test_streams_that_cannot_be_are_refused(folders, options, message):
    with pytest.raises(ValueError, match=message):
        stream_of(folders, **options)


def test_domains_of_short_clips_are_refused(folders, tmp_path):
    write(tmp_path / "short.wav", noise(1, 799), RATE)
    with pytest.raises(CodaxError, match=r"'short': every clip is shorter .*=0\.1;"):
        stream_of({**folders, "short": tmp_path})


@pytest.mark.parametrize(
    ("batch_size", "options", "message"),
    [
        (0, {}, "batch_size=0 must be"),
        (5, {"process_count": 2}, "batch_size=5 must be a positive multiple of the 2"),
        (4, {"process_count": 2, "process_index": 2}, "process_index=2 must be"),
        (4, {"workers": -1}, "workers=-1 must be"),
    ],
)
def test_batches_that_cannot_be_are_refused(stream, batch_size, options, message):
    with pytest.raises(ValueError, match=message):
        TrainingBatches(stream, batch_size, **options)


# --- validation ----------------------------------------------------------------------------------


def test_validation_excerpts_are_the_same_every_time(folders):
    first, second = (
        validation_excerpts(folders, SHAPE, workers=workers, transforms=DAC_TRANSFORMS)
        for workers in (1, 2)
    )
    assert len(first) == 9  # one for each clip
    for one, same in zip(first, second, strict=True):
        assert (one.domain, one.clip) == (same.domain, same.clip)
        np.testing.assert_array_equal(one.samples, same.samples)
    assert Counter(one.domain for one in first) == {"music": 3, "noise": 3, "speech": 3}


def test_validation_clips_that_are_too_short_end_in_silence(folders):
    [excerpt] = validation_excerpts(
        {"noise": folders["noise"]}, ExcerptShape(RATE, 1, 5.0), count=1
    )
    assert excerpt.samples.shape == (1, 40000)
    assert excerpt.samples[0, :24000].any()
    assert not excerpt.samples[0, 24003:].any()
    with pytest.raises(ValueError, match="count=0 must be"):
        validation_excerpts(folders, SHAPE, count=0)
