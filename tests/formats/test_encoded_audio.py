"""Laws of `EncodedAudio`: what it refuses, what it derives, how it is saved."""

import dataclasses

import numpy as np
import pytest

from codax.errors import FormatError
from codax.formats import EncodedAudio

CODES = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
CLIP = EncodedAudio(
    codes=CODES,
    sampling_rate=44100,
    num_samples=2000,
    input_db=-20.5,
    chunk_frames=4,
    padding=True,
)


def test_properties_follow_from_the_shape_of_the_codes():
    assert (CLIP.channels, CLIP.num_codebooks, CLIP.num_frames) == (2, 3, 4)
    assert CLIP.duration_s == 2000 / 44100


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64, ">i4"])
def test_codes_of_any_integer_type_become_int32_of_their_own(dtype):
    given = CODES.astype(dtype)
    clip = dataclasses.replace(CLIP, codes=given)
    given[:] = 0
    assert clip.codes.dtype == np.int32
    assert clip.codes.flags.c_contiguous
    np.testing.assert_array_equal(clip.codes, CODES)


def test_numpy_integers_become_python_integers():
    clip = dataclasses.replace(CLIP, num_samples=np.int64(2000), chunk_frames=np.uint8(4))
    assert type(clip.num_samples) is type(clip.chunk_frames) is int


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("codes", CODES.astype(np.float32), "codes are float32, allowed: integers"),
        ("codes", CODES[0], r"shape \(3, 4\), allowed: \(channels, codebooks, frames\)"),
        ("codes", CODES[..., :0], r"shape \(2, 3, 0\)"),
        ("codes", CODES - 1, "codes reach from -1 to 22, allowed: 0 to 2147483647"),
        ("codes", CODES.astype(np.uint64) << 40, "allowed: 0 to 2147483647"),
        ("sampling_rate", 0, "sampling_rate is 0, allowed: an integer from 1 to 768000"),
        ("sampling_rate", 768_001, "sampling_rate is 768001"),
        ("sampling_rate", 44100.0, "sampling_rate is 44100.0"),
        ("num_samples", 0, "num_samples is 0, allowed: an integer from 1 to 176400"),
        ("num_samples", 176_401, "num_samples is 176401"),
        ("num_samples", True, "num_samples is True"),
        ("chunk_frames", 0, "chunk_frames is 0, allowed: an integer from 1 to 4"),
        ("chunk_frames", 5, "chunk_frames is 5"),
        ("input_db", float("nan"), "input_db is nan, allowed: -200 to 200 LUFS, or None"),
        ("input_db", float("-inf"), "input_db is -inf"),
        ("input_db", "loud", "input_db is 'loud'"),
        ("input_db", (-20.0, float("inf")), "input_db is inf"),
        ("input_db", (-20.0,), r"input_db has 1 values, allowed: one number or one per channel"),
        ("padding", 1, "padding is 1, allowed: True or False"),
        ("padding", None, "padding is None"),
        ("channels_per_stream", 0, "channels_per_stream is 0, allowed: an integer from 1 to 256"),
        ("segment_frames", [4], r"segment_frames is \[4\], allowed: a tuple of frame counts"),
        ("segment_frames", (), r"segment_frames is \(\), allowed: a tuple of frame counts"),
        ("segment_frames", (3, 2), "segment_frames add up to 5, allowed: 4"),
        ("segment_frames", (4, 0), "segment_frames: an entry is 0, allowed: .* from 1 to 4"),
        ("scales", [[1.0]], r"scales have shape \(1, 1\), allowed: \(2, 1\), streams, segments"),
        ("scales", [[1.0], [np.nan]], "scales hold negative or non-finite values"),
        ("scales", [[1.0], [-1.0]], "scales hold negative or non-finite values"),
        ("model", "", "model is '', allowed: a name, or None"),
        ("revision", 7, "revision is 7, allowed: a name, or None"),
    ],
)
def test_a_wrong_field_is_refused_by_name_and_value(field, value, message):
    with pytest.raises(FormatError, match=message):
        dataclasses.replace(CLIP, **{field: value})


def test_a_stream_of_two_channels_counts_twice():
    assert dataclasses.replace(CLIP, channels_per_stream=2).channels == 4


def test_codes_fit_a_model_that_has_as_many_codebooks_and_entries():
    CLIP.check_codes(num_codebooks=3, codebook_size=24)
    CLIP.check_codes(num_codebooks=9, codebook_size=1024)


def test_codes_beyond_the_model_are_refused():
    with pytest.raises(FormatError, match="codes use 3 codebooks, allowed: up to 2"):
        CLIP.check_codes(num_codebooks=2, codebook_size=24)
    with pytest.raises(FormatError, match="codes reach 23, allowed: 0 to 22"):
        CLIP.check_codes(num_codebooks=3, codebook_size=23)


@pytest.mark.parametrize("name", ["song.dac", "SONG.DAC"])
@pytest.mark.parametrize("input_db", [-20.5, (-20.5, -31.25), None])
def test_a_saved_clip_loads_as_it_was(tmp_path, name, input_db):
    clip = dataclasses.replace(CLIP, input_db=input_db, chunk_frames=2, padding=False)
    clip.save(tmp_path / name)
    assert EncodedAudio.load(tmp_path / name) == clip


def test_clips_are_equal_by_content():
    assert dataclasses.replace(CLIP) == CLIP
    assert dataclasses.replace(CLIP, codes=CODES + 1) != CLIP
    assert dataclasses.replace(CLIP, input_db=None) != CLIP
    assert CLIP != "a clip"


@pytest.mark.parametrize("name", ["song.npy", "song", "song.dac.gz"])
def test_an_unknown_suffix_is_refused_and_nothing_written(tmp_path, name):
    with pytest.raises(FormatError, match=r"song.*the suffix is '.*', allowed: \.dac"):
        CLIP.save(tmp_path / name)
    with pytest.raises(FormatError, match=r"song.*the suffix is '.*', allowed: \.dac"):
        EncodedAudio.load(tmp_path / name)
    assert not any(tmp_path.iterdir())
