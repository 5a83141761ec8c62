"""A file's format is told by its suffix, or by how it begins."""

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codax.errors import FormatError
from codax.formats import EncodedAudio, codax_bytes, dac_bytes, ecdc_bytes, read_clip
from codax.formats.containers import CONTAINERS, container_of, container_of_bytes

from .predictors import predictor

CLIP = EncodedAudio(
    codes=np.arange(8).reshape(1, 2, 4),
    sampling_rate=24000,
    num_samples=1000,
    model="encodec_24khz",
)
WRITERS = {".dac": dac_bytes, ".ecdc": ecdc_bytes, ".codax": codax_bytes}


def test_every_container_is_covered_here():
    assert WRITERS.keys() == CONTAINERS.keys()


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_saved_clip_is_read_by_path_by_bytes_and_from_an_open_file(tmp_path, suffix):
    expected = dataclasses.replace(CLIP, model=None if suffix == ".dac" else CLIP.model)
    path = tmp_path / f"song{suffix}"
    CLIP.save(path)
    assert path.read_bytes() == WRITERS[suffix](CLIP)
    with path.open("rb") as file:
        for source in (path, str(path), path.read_bytes(), file):
            assert read_clip(source) == expected
    assert EncodedAudio.load(path) == expected


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_the_first_bytes_name_the_format(suffix):
    container = container_of(f"SONG{suffix.upper()}")
    assert container is CONTAINERS[suffix]
    assert container_of_bytes(WRITERS[suffix](CLIP)) is container


@given(st.binary(max_size=20))
def test_bytes_of_no_format_are_taken_for_the_oldest_one(content):
    assert container_of_bytes(content) in CONTAINERS.values()
    assert container_of_bytes(b"RIFF" + content) is CONTAINERS[".dac"]


def test_the_suffix_of_a_path_counts_not_its_first_bytes(tmp_path):
    path = tmp_path / "song.dac"
    path.write_bytes(ecdc_bytes(CLIP))
    with pytest.raises(FormatError, match=r"song\.dac: damaged or of another kind"):
        read_clip(path)


def test_a_damaged_file_is_refused_by_its_name():
    for writer in WRITERS.values():
        file = io.BytesIO(writer(CLIP)[:-1])
        file.name = "song"
        with pytest.raises(FormatError, match=r"^song: "):
            read_clip(file)


def test_an_unknown_suffix_is_refused_before_the_file_is_opened(tmp_path):
    with pytest.raises(FormatError, match=r"the suffix is '.mp3', allowed: .dac, .ecdc, .codax"):
        read_clip(tmp_path / "absent.mp3")


def test_a_language_model_is_used_for_the_file_that_was_written_with_it(tmp_path):
    probabilities = predictor()
    path = tmp_path / "song.ecdc"
    path.write_bytes(ecdc_bytes(CLIP, probabilities))
    assert read_clip(path, probabilities) == CLIP
    assert read_clip(path.read_bytes(), probabilities) == CLIP
    assert read_clip(codax_bytes(CLIP), probabilities) == CLIP
    with pytest.raises(FormatError, match="was written with a language model"):
        read_clip(path)
