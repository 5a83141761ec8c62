"""What may stand in an audio column, and what each stands for."""

import numpy as np
import pytest

from codax import Audio, AudioError
from codax.corpus import PrepareAudio
from codax.corpus.audio_values import audio_of, name_of
from tests.tiny_encodec import noise

from .clips import Decoder, file_of

RATE = 8000
STEREO = noise(2, 300)
AS_ARRAYS = {
    "lists": {"array": STEREO.tolist(), "sampling_rate": RATE},
    "list of arrays": {"array": [*STEREO], "sampling_rate": RATE},
    "array": {"array": STEREO, "sampling_rate": np.int64(RATE)},
    "decoder": Decoder(STEREO, RATE),
    "codax.Audio": Audio(STEREO, RATE),
    "file": file_of(STEREO, RATE),
    "bytes": {"bytes": file_of(STEREO, RATE), "path": "no such file.wav"},
    "bytes without path": {"bytes": file_of(STEREO, RATE)},
}


@pytest.fixture(scope="session")
def prepare(dac_folder):
    """Audio at the rate of the model is not changed."""
    return PrepareAudio(dac_folder, loudness_db=None)


@pytest.mark.parametrize("value", AS_ARRAYS.values(), ids=AS_ARRAYS)
def test_every_kind_of_value_keeps_its_samples_channels_and_rate(prepare, value):
    [samples], [rate] = (
        prepare({"audio": [value]})[name] for name in ("input_values", "sampling_rate")
    )
    np.testing.assert_array_equal(samples, STEREO)
    assert (samples.dtype, rate, type(rate)) == (np.float32, RATE, int)


@pytest.mark.parametrize("value", AS_ARRAYS.values(), ids=AS_ARRAYS)
def test_one_example_is_a_row_and_not_a_batch(prepare, value):
    row = prepare({"audio": value})
    np.testing.assert_array_equal(row["input_values"], STEREO)
    assert row["num_samples"] == 300


@pytest.mark.parametrize("as_value", [str, lambda path: path, lambda path: {"path": str(path)}])
@pytest.mark.parametrize("extra", [{}, {"bytes": None}])
def test_a_path_is_read(prepare, tmp_path, as_value, extra):
    path = tmp_path / "clip.wav"
    path.write_bytes(file_of(STEREO, RATE))
    value = as_value(path)
    value = {**value, **extra} if isinstance(value, dict) else value
    np.testing.assert_array_equal(prepare({"audio": [value]})["input_values"][0], STEREO)


@pytest.mark.parametrize("samples", [STEREO[0], STEREO[0].tolist(), STEREO[:1]])
def test_an_array_without_channels_is_mono(prepare, samples):
    row = prepare({"audio": [{"array": samples, "sampling_rate": RATE}]})
    np.testing.assert_array_equal(row["input_values"][0], STEREO[:1])


def test_integers_are_scaled_as_the_format_they_are_of(prepare):
    integers = np.array([[0, 2**14, -(2**15)]], np.int16)
    row = prepare({"audio": [{"array": integers, "sampling_rate": RATE}]})
    np.testing.assert_array_equal(row["input_values"][0], [[0, 0.5, -1]])


def test_integers_whose_full_scale_is_not_known_are_refused(prepare):
    with pytest.raises(AudioError, match=r"clip 0 of the batch: .*samples of type int64"):
        prepare({"audio": [{"array": [0, 2**14], "sampling_rate": RATE}]})


# --- arrays without a rate -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def at_8khz(dac_folder):
    return PrepareAudio(dac_folder, loudness_db=None, sampling_rate=RATE)


@pytest.mark.parametrize("samples", [STEREO[0], STEREO[0].tolist()], ids=["array", "list"])
def test_numbers_alone_are_one_clip(at_8khz, samples):
    np.testing.assert_array_equal(at_8khz({"audio": samples})["input_values"], STEREO[:1])


def ragged():
    """A column of arrays of different lengths, as formatted data sets give it."""
    column = np.empty(2, object)
    column[:] = [STEREO[0], STEREO[1, :200]]
    return column


def test_arrays_of_numbers_are_a_batch(at_8khz):
    for column in (STEREO, [*STEREO], STEREO.tolist()):
        values = at_8khz({"audio": column})["input_values"]
        np.testing.assert_array_equal(np.concatenate(values), STEREO)
    first, second = at_8khz({"audio": ragged()})["input_values"]
    assert (first.shape, second.shape) == ((1, 300), (1, 200))


def test_a_batch_of_paths_may_be_an_array(at_8khz, tmp_path):
    (tmp_path / "clip.wav").write_bytes(file_of(STEREO, RATE))
    rows = at_8khz({"audio": np.array([str(tmp_path / "clip.wav")] * 2)})
    assert [len(values) for values in rows["input_values"]] == [2, 2]


@pytest.mark.parametrize("array_format", [None, "numpy"])
def test_data_sets_of_arrays_are_mapped_in_batches_and_one_by_one(at_8khz, array_format):
    from datasets import Dataset, Features, List, Value

    features = Features({"audio": List(Value("float32"))})
    dataset = Dataset.from_dict({"audio": STEREO.tolist()}, features).with_format(array_format)
    for batched in (True, False):
        mapped = dataset.map(at_8khz, batched=batched).with_format(None)
        values = [np.array(one, np.float32) for one in mapped["input_values"]]
        np.testing.assert_array_equal(np.stack(values), STEREO[:, None])


def test_a_clip_with_channels_in_a_data_set_is_mapped_by_itself(at_8khz):
    from datasets import Dataset

    mapped = Dataset.from_dict({"audio": [STEREO.tolist()]}).map(at_8khz)
    np.testing.assert_array_equal(np.array(mapped["input_values"][0], np.float32), STEREO)


def test_a_streamed_data_set_is_mapped_in_batches_and_one_by_one(prepare):
    from datasets import Dataset

    values = [{"array": STEREO.tolist(), "sampling_rate": RATE}] * 3
    stream = Dataset.from_dict({"audio": values}).to_iterable_dataset()
    for batched in (True, False):
        rows = list(stream.map(prepare, batched=batched))
        assert [row["num_samples"] for row in rows] == [300] * 3
        np.testing.assert_array_equal(np.array(rows[2]["input_values"], np.float32), STEREO)


def test_the_rate_of_an_array_goes_before_the_one_that_is_told_for_all(at_8khz):
    values = [{"array": STEREO, "sampling_rate": rate} for rate in (4000, None)]
    rows = at_8khz({"audio": values})
    assert rows["sampling_rate"] == [4000, 8000]
    assert [values.shape[1] for values in rows["input_values"]] == [600, 300]


@pytest.mark.parametrize(
    "value", [STEREO, {"array": STEREO}, {"array": STEREO, "sampling_rate": None}]
)
def test_an_array_whose_rate_is_not_known_is_refused(value):
    with pytest.raises(AudioError, match="needs sampling_rate="):
        audio_of(value)


# --- what is no audio ----------------------------------------------------------------------------

NO_AUDIO = {
    "None": (None, "the value is None"),
    "nothing": ({}, "expected bytes, a path, or an array"),
    "neither": ({"bytes": None, "path": None}, "no audio in {bytes, path}"),
    "text for bytes": ({"bytes": "RIFF", "path": None}, "bytes are str"),
    "number for bytes": ({"bytes": 8, "path": None}, "bytes are int"),
    "number for path": ({"path": 8}, "sampling_rate"),
    "words": ({"array": ["a", "b"], "sampling_rate": RATE}, "samples of type"),
    "rate in words": ({"array": STEREO, "sampling_rate": "8 kHz"}, "'8 kHz' must be an integer"),
    "rate of zero": ({"array": STEREO, "sampling_rate": 0}, "sampling_rate=0"),
    "half a rate": ({"array": STEREO, "sampling_rate": 8000.5}, "8000.5 must be an integer"),
    "ragged": ({"array": [[0.1], [0.1, 0.2]], "sampling_rate": RATE}, "different lengths"),
    "three axes": ({"array": STEREO[None], "sampling_rate": RATE}, "shape (1, 2, 300)"),
    "no samples": ({"array": [], "sampling_rate": RATE}, "shape (1, 0)"),
    "NaN": ({"array": [0.1, np.nan], "sampling_rate": RATE}, "the sample at [0, 1] is nan"),
    "no file's bytes": (b"RIFF", "no audio format"),
    "folder": ({"path": "/"}, "/: Is a directory"),
    "missing": ({"path": "gone.wav"}, "gone.wav: No such file"),
    "no name": ({"path": "nul\0.wav"}, "null"),
    "some object": (object(), "needs sampling_rate="),
}


@pytest.mark.parametrize(("value", "reason"), NO_AUDIO.values(), ids=NO_AUDIO)
def test_what_is_no_audio_is_refused_or_marked_with_the_reason(dac_folder, value, reason):
    good = Audio(STEREO, RATE)
    with pytest.raises(AudioError, match=r"^clip 1 of the batch: .*errors='mark'") as refused:
        PrepareAudio(dac_folder)({"audio": [good, value]})
    assert reason in str(refused.value)
    rows = PrepareAudio(dac_folder, errors="mark")({"audio": [good, value, good]})
    assert reason in rows["error"][1]
    assert [rows["error"][0], rows["error"][2]] == ["", ""]
    assert [values.size for values in rows["input_values"]] == [600, 0, 600]


def test_the_name_of_a_value_is_its_path(tmp_path):
    assert name_of({"bytes": b"", "path": "a.wav"}) == name_of("a.wav") == "a.wav"
    assert name_of(tmp_path) == str(tmp_path)
    assert name_of({"bytes": b""}) is name_of(b"") is name_of(None) is None
