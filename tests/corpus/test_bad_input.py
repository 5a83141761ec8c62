"""What cannot be coded: one clear error, or a row that says why, and the others unharmed."""

import numpy as np
import pytest

from codax import AudioError, FormatError
from codax.corpus import DecodeAudio, EncodeAudio, PrepareAudio

from .clips import dataset_of, file_of, noise

RATE = 8000
GOOD = file_of(noise(1, 1224), RATE)
BAD = {
    "no samples": (file_of(np.zeros((1, 0)), RATE), "holds no samples"),
    "NaN": (file_of([[0.1, np.nan]], RATE), "is nan; audio must be finite"),
    "infinite": (file_of([[0.1, np.inf]], RATE), "is inf; audio must be finite"),
    "no audio": (b"This is no audio.", "no audio format that can be read"),
    "empty": (b"", "no audio format that can be read"),
    "cut off": (file_of(noise(1, 1224), RATE, "FLAC", "PCM_16")[:60], "flac decoder"),
    "missing": (None, "No such file"),
}


def audio_of(*contents):
    """A column of files, named after their places; None is a file that is not there."""
    return [{"bytes": content, "path": f"{index}.wav"} for index, content in enumerate(contents)]


def data_of(*contents):
    return dataset_of(audio_of(*contents))


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_by_its_name(encoder, content, reason):
    with pytest.raises(AudioError, match=r"^clip 1 of the batch: 1\.wav: ") as error:
        data_of(GOOD, content, GOOD).map(encoder(), batched=True)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("held_s", [0.1, 1.0], ids=["by itself", "in memory"])
def test_a_file_that_is_bad_late_is_told_of_by_its_name(encoder, monkeypatch, held_s):
    monkeypatch.setattr("codax.corpus.encode_audio.HELD_S", held_s)
    monkeypatch.setattr("codax.feature_extraction.audio_input._BLOCK_SIZE", 1000)
    samples = noise(1, 1224)
    samples[0, 1100] = np.nan
    rows = encoder(errors="mark", loudness_db=None)({"audio": audio_of(file_of(samples, RATE))})
    assert rows["error"][0].startswith("0.wav: ")
    assert rows["error"][0].endswith("the sample at [0, 1100] is nan; audio must be finite")


@pytest.mark.parametrize("name", ["two\nlines.wav", "two  spaces.wav"])
@pytest.mark.parametrize("content", [b"none", None], ids=["no audio", "missing"])
def test_a_name_with_spaces_is_told_once_in_one_line(encoder, tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    told = encoder(errors="mark")({"audio": [str(path)]})["error"][0]
    once = " ".join(str(path).split())
    assert told.startswith(f"{once}: ")
    assert told.count(once) == 1
    assert "\n" not in told


def test_bad_files_are_marked_and_leave_the_others_unharmed(encoder):
    contents = [content for content, _ in BAD.values()]
    mapped = data_of(GOOD, *contents, GOOD).map(encoder(errors="mark"), batched=True)
    expected = data_of(GOOD).map(encoder(), batched=True)[0]
    for row in (mapped[0], mapped[len(mapped) - 1]):
        assert {name: row[name] for name in ("codes", "num_samples")} == {
            name: expected[name] for name in ("codes", "num_samples")
        }
        assert row["error"] == ""
    for index, (_, reason) in enumerate(BAD.values(), start=1):
        row = mapped[index]
        assert row["error"].startswith(f"{index}.wav: ")
        assert reason in row["error"]
        assert (row["codes"], row["num_samples"], row["num_channels"]) == ([], 0, 0)


@pytest.mark.parametrize("kind", ["dac", "encodec_48khz"])
@pytest.mark.parametrize("first", [b"none", GOOD], ids=["bad first", "good first"])
def test_a_batch_of_bad_files_has_the_columns_of_a_good_one(encoder, kind, first):
    stereo = file_of(noise(2, 1224), RATE)
    first, last = (b"none", stereo) if first == b"none" else (stereo, b"none")
    mapped = data_of(first, first, last).map(
        encoder(kind, errors="mark"), batched=True, batch_size=2
    )
    good = data_of(stereo).map(encoder(kind, errors="mark"), batched=True)
    assert mapped.features == good.features
    assert [not codes for codes in mapped["codes"]] == [bool(error) for error in mapped["error"]]
    found = mapped[2 if last == stereo else 0]
    assert found["codes"] == good[0]["codes"]


def test_prepared_audio_that_is_bad_first_has_the_same_columns(dac_folder):
    prepare = PrepareAudio(dac_folder, errors="mark")
    mapped = data_of(b"none", GOOD).map(prepare, batched=True, batch_size=1)
    assert mapped.features == data_of(GOOD).map(prepare, batched=True).features
    assert mapped["num_samples"][:] == [0, 1224]


@pytest.mark.parametrize("errors", ["raise", "mark"])
def test_an_empty_data_set_stays_as_it_is_since_datasets_calls_nothing_for_it(encoder, errors):
    empty = data_of()
    mapped = empty.map(encoder(errors=errors), batched=True)
    assert (len(mapped), mapped.features) == (0, empty.features)


@pytest.mark.parametrize("errors", ["raise", "mark"])
@pytest.mark.parametrize("make", [EncodeAudio, PrepareAudio])
def test_an_empty_batch_has_all_columns_and_no_rows(dac_folder, make, errors):
    operator = make(dac_folder, errors=errors)
    full = operator({"audio": audio_of(GOOD)})
    assert operator({"audio": []}) == {name: [] for name in full}


def test_an_empty_batch_of_codes_is_an_empty_batch_of_audio(encoder, decoder):
    assert decoder()(encoder()({"audio": []})) == {"audio": []}


def test_other_rates_may_be_refused(encoder):
    batch = {"audio": audio_of(GOOD, file_of(noise(1, 1224), 11025))}
    with pytest.raises(AudioError, match=r"1.wav: .*11025 Hz, but the model takes 8000 Hz"):
        encoder(resample=False)(batch)
    rows = encoder(resample=False, errors="mark")(batch)
    assert rows["error"][0] == ""
    assert "resample=True converts it" in rows["error"][1]


def test_mono_clips_are_refused_by_a_stereo_model_unless_they_are_mixed(encoder):
    batch = {"audio": audio_of(GOOD)}
    with pytest.raises(AudioError, match=r"clip 0 of the batch: 0.wav: .*has 1 channels.*takes 2"):
        encoder("encodec_48khz")(batch)
    assert encoder("encodec_48khz", mix_channels=True)(batch)["num_channels"] == [2]


def test_one_bad_example_is_a_row_too(encoder):
    row = encoder(errors="mark")({"audio": audio_of(b"none")[0]})
    assert row["codes"].shape == (0, 0)
    assert "0.wav" in row["error"]
    with pytest.raises(AudioError, match=r"0\.wav"):
        encoder()({"audio": audio_of(b"none")[0]})


# --- options and columns -------------------------------------------------------------------------


@pytest.mark.parametrize("errors", ["raise", "mark"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(encoder, errors):
    with pytest.raises(KeyError, match="no column 'audio', but sound, text"):
        encoder(errors=errors)({"sound": [GOOD], "text": ["a"]})


@pytest.mark.parametrize(
    "option",
    [
        {"errors": "ignore"},
        {"workers": 0},
        {"workers": 1.5},
        {"workers": "two"},
        {"sampling_rate": 0},
        {"sampling_rate": "8000"},
        {"sampling_rate": 8000.5},
    ],
)
@pytest.mark.parametrize("make", [EncodeAudio, PrepareAudio])
def test_options_that_cannot_be_are_refused_at_once(dac_folder, make, option):
    [(name, value)] = option.items()
    with pytest.raises(ValueError, match=f"{name}={value!r} must be"):
        make(dac_folder, **option)


@pytest.mark.parametrize(
    ("kind", "option", "words"),
    [
        ("dac", {"n_quantizers": 9}, "9"),
        ("dac", {"bandwidth": 6.0}, "bandwidth"),
        ("encodec_24khz", {"bandwidth": 5.0}, "5"),
        ("dac", {"loudness_db": "loud"}, "loudness_db=loud must be"),
        ("dac", {"loudness_db": 1000}, "loudness_db=1000 must be"),
        ("dac", {"chunk_length_s": -1}, "chunk_length_s"),
        ("dac", {"batch_length_s": "all"}, "batch_length_s"),
    ],
)
@pytest.mark.parametrize("errors", ["raise", "mark"])
def test_options_that_the_model_does_not_have_are_refused_and_not_marked(
    encoder, kind, option, words, errors
):
    with pytest.raises(ValueError, match=words):
        encoder(kind, errors=errors, **option)({"audio": audio_of(GOOD)})


def test_an_unknown_option_is_refused(dac_folder):
    with pytest.raises(TypeError, match="n_codebooks"):
        EncodeAudio(dac_folder, n_codebooks=3)


def test_a_model_in_memory_is_refused(named):
    for make in (EncodeAudio, PrepareAudio, DecodeAudio):
        with pytest.raises(TypeError, match="expected a preset's name, a Hub id or a folder"):
            make(named["dac"].codec())


# --- the way back --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rows(encoder):
    """Columns of two clips."""
    return encoder()({"audio": audio_of(GOOD, GOOD)})


def test_rows_without_codes_are_not_decoded(encoder, decoder):
    rows = encoder(errors="mark")({"audio": audio_of(GOOD, b"none")})
    with pytest.raises(FormatError, match=r"clip 1 of the batch: .*without codes: 1.wav"):
        decoder()(rows)


def test_codes_of_another_model_are_refused(rows, decoder):
    foreign = {**rows, "codes": [rows["codes"][0], np.full_like(rows["codes"][1], 16)]}
    with pytest.raises(FormatError, match="clip 1 of the batch: codes reach 16, allowed: 0 to 15"):
        decoder()(foreign)


def test_columns_that_are_missing_are_named(rows, decoder):
    del (rows := dict(rows))["num_channels"]
    with pytest.raises(KeyError, match="no column 'num_channels', but codes"):
        decoder()(rows)


def test_other_file_formats_are_refused(dac_folder):
    with pytest.raises(ValueError, match="file_format='aac' must be wav, flac, ogg, mp3 or None"):
        DecodeAudio(dac_folder, file_format="aac")


def test_audio_that_a_file_format_cannot_hold_is_refused(rows, decoder):
    fast = {**rows, "sampling_rate": [8000, 700_000]}
    with pytest.raises(AudioError, match="clip 1 of the batch: "):
        decoder(file_format="flac")(fast)
