"""A clip as a row, and back."""

import numpy as np
import pyarrow as pa
import pytest

from codax import EncodedAudio, FormatError
from codax.corpus import clip_of, row_of

RANDOM = np.random.default_rng(0)


def codes_of(streams, books=3, frames=20, size=16):
    return RANDOM.integers(0, size, (streams, books, frames))


SEGMENTS = {"segment_frames": (12, 8), "channels_per_stream": 2}
CLIPS = {
    "mono": EncodedAudio(codes_of(1), 8000, 190),
    "stereo": EncodedAudio(codes_of(2), 44100, 1000, input_db=-23.5),
    "six channels": EncodedAudio(codes_of(6), 8000, 190, input_db=-70.0),
    "one codebook": EncodedAudio(codes_of(1, books=1), 8000, 190),
    "one frame": EncodedAudio(codes_of(2, frames=1), 8000, 3),
    "segments": EncodedAudio(codes_of(1), 8000, 190, scales=[[0.1, 0.0]], **SEGMENTS),
    "segments of four channels": EncodedAudio(
        codes_of(2), 8000, 190, scales=[[0.1, 2.0], [1.5, 1.0]], **SEGMENTS
    ),
    "segments at their level": EncodedAudio(codes_of(1), 8000, 190, **SEGMENTS),
    "one segment": EncodedAudio(
        codes_of(1), 8000, 190, scales=[[0.3]], segment_frames=(20,), channels_per_stream=2
    ),
}


@pytest.fixture(params=CLIPS.values(), ids=CLIPS)
def clip(request):
    return request.param


def test_a_clip_comes_back(clip):
    assert clip_of(row_of(clip), clip.channels_per_stream) == clip


def test_a_clip_comes_back_from_the_lists_of_a_data_set(clip):
    [row] = pa.Table.from_pylist(
        [
            {
                name: getattr(value, "tolist", lambda v=value: v)()
                for name, value in row_of(clip).items()
            }
        ]
    ).to_pylist()
    assert clip_of({**row, "error": ""}, clip.channels_per_stream) == clip


def test_a_mono_clip_has_its_codes_as_they_are():
    clip = CLIPS["mono"]
    assert np.array_equal(row_of(clip)["codes"], clip.codes[0])


def test_codebooks_of_a_stream_stand_together():
    clip = CLIPS["stereo"]
    assert np.array_equal(row_of(clip)["codes"], np.concatenate([*clip.codes]))


@pytest.mark.parametrize(
    ("size", "dtype"), [(16, np.int16), (2**15, np.int16), (2**15 + 1, np.int32), (2**31, np.int32)]
)
def test_codes_have_the_smallest_type_that_holds_the_codebook(size, dtype):
    clip = EncodedAudio([[[0, size - 1]]], 8000, 20)
    row = row_of(clip, size)
    assert row["codes"].dtype == dtype
    assert clip_of(row) == clip


def test_values_are_those_of_the_clip():
    clip = CLIPS["segments"]
    row = row_of(clip, 16)
    assert (row["sampling_rate"], row["num_samples"], row["num_channels"]) == (8000, 190, 2)
    assert np.isnan(row["input_db"])
    assert row_of(CLIPS["stereo"])["input_db"] == -23.5
    assert (row["segment_frames"].dtype, row["segment_frames"].tolist()) == (np.int32, [12, 8])
    assert (row["scales"].dtype, row["scales"].shape) == (np.float32, (1, 2))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input_db": (-20.0, -30.0)}, "one loudness"),
        ({"chunk_frames": 10, "padding": False}, "not in chunks"),
        ({"padding": False}, "not in chunks"),
    ],
)
def test_a_clip_of_which_a_row_does_not_tell_all_is_refused(fields, words):
    with pytest.raises(FormatError, match=words):
        row_of(EncodedAudio(codes_of(2), 8000, 190, **fields))


MISSING = object()
DAMAGE = {
    "no codes": {"codes": MISSING},
    "codes null": {"codes": None},
    "codes empty": {"codes": []},
    "codes without frames": {"codes": [[], [], []]},
    "ragged": {"codes": [[1, 2], [3]]},
    "codes are floats": {"codes": [[1.5, 2.0]]},
    "codes are words": {"codes": "codes"},
    "codes negative": {"codes": [[1, -2]]},
    "codes flat": {"codes": [1, 2]},
    "no rate": {"sampling_rate": MISSING},
    "rate null": {"sampling_rate": None},
    "rate zero": {"sampling_rate": 0},
    "rate in words": {"sampling_rate": "8000"},
    "no length": {"num_samples": MISSING},
    "length negative": {"num_samples": -1},
    "length is no integer": {"num_samples": 190.5},
    "length beyond the codes": {"num_samples": 10**9},
    "no channels": {"num_channels": 0},
    "channels negative": {"num_channels": -2},
    "channels do not divide": {"num_channels": 4},
    "channels are half": {"num_channels": 2.5},
    "more channels than books": {"num_channels": 8},
    "loudness null": {"input_db": None},
    "loudness beyond all": {"input_db": 1e9},
    "segments do not add up": {"segment_frames": [12, 9]},
    "segments are words": {"segment_frames": ["12", "8"]},
    "segments are halves": {"segment_frames": [12.5, 7.5]},
    "segments are a number": {"segment_frames": 20},
    "scales of other segments": {"scales": [[0.1]]},
    "scales ragged": {"scales": [[0.1], [0.1, 0.2]]},
    "scales null": {"scales": [[None, 1.0]]},
    "scales in words": {"scales": [["loud", "soft"]]},
    "scales not finite": {"scales": [[np.nan, 1.0]]},
    "an error": {"error": "a.wav: gone"},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_is_refused(damage):
    row = {**row_of(CLIPS["segments"]), **damage}
    row = {name: value for name, value in row.items() if value is not MISSING}
    with pytest.raises(FormatError) as error:
        clip_of(row, channels_per_stream=2)
    assert "\n" not in str(error.value)


def test_a_row_of_a_model_with_other_channels_is_refused():
    with pytest.raises(FormatError, match="for 1 channels, allowed: as many books for each 2"):
        clip_of(row_of(CLIPS["mono"]), channels_per_stream=2)


def test_a_row_tells_why_it_has_no_codes():
    with pytest.raises(FormatError, match=r"without codes: a\.wav: gone"):
        clip_of({**row_of(CLIPS["mono"]), "error": "a.wav: gone"})
