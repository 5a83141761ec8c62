"""What is trained on, by domains: what they are opened from, and what is refused early."""

import json

import numpy as np
import pytest

from codax import CodaxError
from codax.corpus.sources import open_corpus
from codax.training.domains import Domain, open_domains, require_long_enough
from codax.training.excerpts import ExcerptShape
from tests.corpus.clips import dataset_of

from .clips import noise, write

RATE = 8000
SHAPE = ExcerptShape(RATE, 1, 0.1)
CLIPS = [noise(1, 1000 + number, seed=number) for number in range(3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for number, samples in enumerate(CLIPS):
        write(folder / f"{number}.wav", samples, RATE)
    return folder


@pytest.fixture
def datasets_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def stored(folder):
    """A data set of the folder's files, as they are stored on the Hub, and of a column more."""
    audio = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(folder.iterdir())]
    return dataset_of(audio, speaker=[1, 2, 3])


def as_folder(folder, _):
    return folder


def as_manifest(folder, tmp_path):
    path = tmp_path / "clips.jsonl"
    path.write_text(
        "".join(json.dumps({"audio": str(one)}) + "\n" for one in sorted(folder.iterdir()))
    )
    return path


def as_parquet(folder, tmp_path):
    stored(folder).to_parquet(tmp_path / "clips.parquet")
    return tmp_path / "clips.parquet"


def as_dataset(folder, tmp_path):
    stored(folder).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def as_corpus(folder, _):
    return open_corpus(folder)


SOURCES = [as_folder, as_manifest, as_parquet, as_dataset, as_corpus]


@pytest.mark.parametrize("source", SOURCES)
def test_every_kind_of_source_gives_its_clips_in_any_order(
    folder, tmp_path, datasets_cache, source
):
    opened = source(folder, tmp_path)
    [domain] = open_domains({"noise": opened})
    assert (domain.name, len(domain)) == ("noise", 3)
    for index in (2, 0, 1):
        with domain.clip(index) as clip:
            np.testing.assert_array_equal(clip.read(0, 2000), CLIPS[index])
            assert clip.name.endswith(f"{index}.wav")
        assert domain.name_of(index) == clip.name
    [again] = open_domains({"noise": opened})
    assert again.digest() == domain.digest()


def test_a_domain_has_the_clips_of_all_its_sources(folder, tmp_path):
    write(tmp_path / "more" / "last.wav", CLIPS[0][:, :500], RATE)
    domains = {"b": [folder, tmp_path / "more"], "a": [tmp_path / "more"]}
    first, second = open_domains(domains)
    assert [(domain.name, len(domain)) for domain in (first, second)] == [("a", 1), ("b", 4)]
    with second.clip(3) as clip:
        assert clip.num_samples == 500
    assert second.digest() == [*open_domains({"b": folder})[0].digest(), *first.digest()]


# --- what is refused -----------------------------------------------------------------------------


def test_domains_without_clips_are_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").touch()
    for domains, message in (
        ({}, "there are no domains"),
        ({"speech": []}, "domain 'speech': has no sources"),
        ({"speech": tmp_path / "empty"}, "domain 'speech': .*empty: holds no audio"),
        ({"speech": [tmp_path / "list.txt"]}, "domain 'speech': .*list.txt: a corpus is"),
    ):
        with pytest.raises(CodaxError, match=message):
            open_domains(domains)


def domain_of(folder):
    return Domain("noise", [open_corpus(folder)])


def test_a_domain_is_refused_where_every_clip_is_too_short(folder):
    with pytest.raises(CodaxError, match=r"'noise': every clip is shorter .* 0\.125 s"):
        require_long_enough(domain_of(folder), ExcerptShape(RATE, 1, 0.126))


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_a_domain_with_one_clip_as_long_as_an_excerpt_is_taken(folder, rate):
    """The longest has 1002 samples at 8 kHz."""
    longest = ExcerptShape(RATE, 1, 1002 / RATE)
    require_long_enough(domain_of(folder), longest)
    with pytest.raises(CodaxError, match="every clip is shorter"):
        require_long_enough(domain_of(folder), ExcerptShape(RATE, 1, 1003 / RATE))


def test_a_domain_is_refused_where_no_clip_can_be_read(tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no audio")
    with pytest.raises(CodaxError, match=r"'noise': none of 2 clips can be read; .*a\.wav: "):
        require_long_enough(domain_of(tmp_path), SHAPE)
    write(tmp_path / "c.wav", CLIPS[0], RATE)
    require_long_enough(domain_of(tmp_path), SHAPE)
