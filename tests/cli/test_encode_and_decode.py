"""`codax encode` and `codax decode`: which inputs become which outputs."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codax import EncodedAudio

from .running import NUM_SAMPLES, RATE, files_below, write_audio, write_codes

ASSETS = Path(__file__).parents[1] / "assets"


def test_a_file_becomes_a_dac_file_beside_it(coding):
    write_audio("song.wav")
    coding("encode", "song.wav").assert_succeeded("song.wav -> song.dac")
    assert files_below() == ["song.dac", "song.wav"]
    encoded = EncodedAudio.load("song.dac")
    assert (encoded.codes.shape, encoded.num_samples) == ((1, 3, 11), NUM_SAMPLES)


@pytest.mark.parametrize(("channels", "sampling_rate"), [(1, 8000), (2, 48000), (2, 96000)])
def test_an_encoded_file_comes_back_with_its_rate_channels_and_length(
    coding, channels, sampling_rate
):
    num_samples = NUM_SAMPLES * sampling_rate // RATE
    write_audio("song.flac", channels, num_samples, sampling_rate)
    coding("encode", "song.flac").assert_succeeded()
    coding("decode", "song.dac").assert_succeeded("song.dac -> song.wav")
    info = soundfile.info("song.wav")
    assert (info.channels, info.samplerate, info.frames) == (channels, sampling_rate, num_samples)
    assert info.subtype == "PCM_16"


def test_a_recording_encodes_and_comes_back_as_long_as_it_was(coding):
    shutil.copy(ASSETS / "music.flac", "music.flac")
    coding("encode", "music.flac").assert_succeeded()
    coding("decode", "music.dac").assert_succeeded()
    before, after = soundfile.info("music.flac"), soundfile.info("music.wav")
    assert (after.frames, after.channels) == (before.frames, before.channels)


def test_fewer_quantizers_give_fewer_codebooks(coding):
    write_audio("song.wav")
    coding("encode", "song.wav", "--n-quantizers", 2).assert_succeeded()
    assert EncodedAudio.load("song.dac").num_codebooks == 2


def test_without_loudness_none_is_stored(coding):
    write_audio("song.wav")
    coding("encode", "song.wav", "--no-loudness").assert_succeeded()
    assert EncodedAudio.load("song.dac").input_db is None


# --- where outputs go ----------------------------------------------------------------------------


def test_a_tree_is_mirrored_below_the_output_folder(coding):
    for name in ("one.wav", "sub/two.flac", "sub/deep er/three.ogg", "sub/deep er/FOUR.WAV"):
        write_audio(f"in/{name}")
    Path("in/sub/cover.jpg").write_text("not audio, and not asked for")
    coding("encode", "in", "--output", "codes/of mine")
    assert files_below("codes/of mine") == [
        "one.dac",
        "sub",
        "sub/deep er",
        "sub/deep er/FOUR.dac",
        "sub/deep er/three.dac",
        "sub/two.dac",
    ]
    coding("decode", "codes/of mine", "--output", "back")
    assert files_below("back") == [
        "one.wav",
        "sub",
        "sub/deep er",
        "sub/deep er/FOUR.wav",
        "sub/deep er/three.wav",
        "sub/two.wav",
    ]


def test_without_output_a_tree_gets_its_outputs_beside_its_inputs(coding):
    write_audio("in/one.wav")
    write_audio("in/sub/two.wav")
    coding("encode", "in")
    assert files_below("in") == ["one.dac", "one.wav", "sub", "sub/two.dac", "sub/two.wav"]


def test_several_files_and_folders_go_into_one_output_folder(coding):
    write_audio("a/one.wav")
    write_audio("b/two.wav")
    write_audio("c/sub/three.wav")
    coding("encode", "a/one.wav", "b", "c", "-o", "out")
    assert files_below("out") == ["one.dac", "sub", "sub/three.dac", "two.dac"]


def test_for_one_file_output_may_name_the_file(coding):
    write_audio("song.wav")
    coding("encode", "song.wav", "-o", "new/codes.dac").assert_succeeded("new/codes.dac")
    coding("decode", "new/codes.dac", "-o", "back.flac").assert_succeeded("back.flac")
    assert files_below() == ["back.flac", "new", "new/codes.dac", "song.wav"]
    assert soundfile.info("back.flac").format == "FLAC"


@pytest.mark.parametrize("name", ["BACK.WAV", "back.Flac", "codes.DAC"])
def test_output_names_a_file_in_capital_letters_too(coding, name):
    """A name ending in .WAV is a file's: nobody asks for a folder called so."""
    write_audio("song.wav")
    write_codes("song.dac")
    coding(*(("encode", "song.wav") if name == "codes.DAC" else ("decode", "song.dac")), "-o", name)
    assert Path(name).is_file()


@pytest.mark.parametrize("name", ["out.wav", "out.mp3"])
def test_encoding_into_an_audio_file_is_refused(coding, name):
    write_audio("song.wav")
    coding("encode", "song.wav", "-o", name).assert_failed(name)
    assert files_below() == ["song.wav"]


def test_an_output_folder_may_have_a_dot_in_its_name(coding):
    write_audio("song.wav")
    coding("encode", "song.wav", "-o", "codes v1.2").assert_succeeded("codes v1.2/song.dac")


def test_a_folder_whose_name_ends_like_a_file_is_a_folder_once_it_exists(coding):
    write_audio("song.wav")
    Path("album.dac").mkdir()
    coding("encode", "song.wav", "-o", "album.dac").assert_succeeded("album.dac/song.dac")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_decoded_audio_has_the_format_that_was_asked_for(coding, suffix):
    write_codes("song.dac")
    coding("decode", "song.dac", "--format", suffix).assert_succeeded(f"song.{suffix}")
    assert soundfile.info(f"song.{suffix}").format == suffix.upper()


def test_the_format_and_the_suffix_of_the_output_must_not_contradict_each_other(coding):
    write_codes("song.dac")
    coding("decode", "song.dac", "--format", "flac", "-o", "song.wav").assert_failed("song.wav")
    assert files_below() == ["song.dac"]


def test_one_output_file_for_several_inputs_is_refused(coding):
    write_audio("one.wav")
    write_audio("two.wav")
    coding("encode", "one.wav", "two.wav", "-o", "both.dac").assert_failed("both.dac", "2 inputs")
    assert files_below() == ["one.wav", "two.wav"]


def test_an_existing_output_is_skipped_and_said_to_be(coding):
    write_audio("song.wav")
    Path("song.dac").write_text("mine")
    finished = coding("encode", "song.wav")
    assert finished.status == 0
    assert finished.err == (
        "codax: 0 encoded, 1 skipped (output exists; --overwrite replaces it), 0 failed\n"
    )
    assert Path("song.dac").read_text() == "mine"


def test_an_existing_output_is_replaced_when_asked(coding):
    write_audio("song.wav")
    Path("song.dac").write_text("mine")
    coding("encode", "song.wav", "--overwrite").assert_succeeded()
    assert EncodedAudio.load("song.dac").num_samples == NUM_SAMPLES


def test_an_output_file_is_as_readable_as_any_other(coding):
    write_audio("song.wav")
    coding("encode", "song.wav")
    assert Path("song.dac").stat().st_mode == Path("song.wav").stat().st_mode


def test_a_second_run_does_only_what_is_left(coding):
    write_audio("in/one.wav")
    coding("encode", "in", "-o", "out")
    before = Path("out/one.dac").stat().st_mtime_ns
    write_audio("in/two.wav")
    finished = coding("encode", "in", "-o", "out")
    assert finished.err.startswith("codax: 1 encoded, 1 skipped")
    assert Path("out/one.dac").stat().st_mtime_ns == before


# --- collisions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "arguments"),
    [
        (("in/song.wav", "in/song.flac"), ("in",)),
        (("in/song.wav", "in/song.flac"), ("in/song.wav", "in/song.flac", "--overwrite")),
        (("a/song.wav", "b/song.wav"), ("a", "b", "-o", "out")),
        (("a/song.wav", "b/song.wav"), ("a/song.wav", "b/song.wav", "-o", "out")),
        (("in/song.wav", "in/song.flac"), ("in/song.wav", "in/../in/song.flac", "--overwrite")),
    ],
    ids=["in a folder", "as files", "two folders", "two files", "by two ways"],
)
def test_inputs_that_would_become_the_same_file_are_refused(coding, names, arguments):
    for name in names:
        write_audio(name)
    before = files_below()
    coding("encode", *arguments).assert_failed(*names[:1], "song.dac", "both")
    assert files_below() == before


def test_an_input_is_never_replaced_by_its_own_output(coding):
    write_audio("song.dac", format="WAV")
    before = Path("song.dac").read_bytes()
    coding("encode", "song.dac", "--overwrite").assert_failed("song.dac", "its own output")
    assert Path("song.dac").read_bytes() == before
    coding("encode", "song.dac", "-o", "out").assert_succeeded("out/song.dac")


def test_the_same_input_twice_is_done_once(coding):
    write_audio("song.wav")
    coding("encode", "song.wav", "./song.wav").assert_succeeded("song.wav -> song.dac")


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["with space", "ünïcödé", "音楽", "emoji 🎵", "quote's \"", "new\nline", "take 1.5", "%s {0}"],
)
def test_any_name_is_a_name(coding, name):
    write_audio(f"{name}/{name}.wav")
    coding("encode", f"{name}/{name}.wav").assert_succeeded()
    coding("decode", name, "-o", f"{name} back").assert_succeeded()
    assert files_below(f"{name} back") == [f"{name}.wav"]


def test_names_with_a_leading_dash_come_after_two_dashes(coding):
    write_audio("-song.wav")
    write_audio("-folder/other.wav")
    coding("encode", "--", "-song.wav", "-folder")
    assert Path("-song.dac").is_file()
    assert Path("-folder/other.dac").is_file()


@pytest.mark.skipif(os.fsencode("\udcff") != b"\xff", reason="file names here are all Unicode")
def test_a_name_that_is_not_unicode_is_done_and_told(coding):
    write_audio("caf\udce9.wav")
    finished = coding("encode", "caf\udce9.wav")
    assert files_below() == ["caf\udce9.dac", "caf\udce9.wav"]
    finished.assert_succeeded("caf")


def test_the_longest_name_that_a_file_can_have_is_done(coding):
    stem = "x" * 251  # 255 bytes with its suffix
    write_audio(f"{stem}.wav")
    coding("encode", f"{stem}.wav").assert_succeeded()
    assert files_below() == [f"{stem}.dac", f"{stem}.wav"]


def test_a_name_too_long_for_its_output_fails_alone(coding):
    too_long = "x" * 252
    for name in ("a", too_long, "z"):
        write_audio(f"in/{name}.au")
    finished = coding("encode", "in", "-o", "out")
    assert files_below("out") == ["a.dac", "z.dac"]
    finished.assert_failed_in_part("2 encoded, 1 failed", [f"{too_long}.au", "name too long"])


def test_hidden_files_are_not_audio(coding):
    """Of macOS on foreign disks (._song.wav), or left half-written by a process that was killed."""
    write_audio("in/song.wav")
    Path("in/._song.wav").write_bytes(b"\0\5\26\7 resource fork")
    Path("in/.song-abc123.dac").write_bytes(b"\x93NUMPY half")
    coding("encode", "in").assert_succeeded("in/song.dac")
    coding("decode", "in", "-o", "out").assert_succeeded("out/song.wav")


# --- what is told --------------------------------------------------------------------------------


def test_json_says_what_became_of_every_file(coding):
    write_audio("in/good.wav")
    write_audio("in/old.wav")
    Path("in/old.dac").write_text("mine")
    Path("in/bad.wav").write_text("not audio")
    finished = coding("encode", "in", "--json")
    summary = json.loads(finished.out)
    assert (summary["done"], summary["skipped"], summary["failed"]) == (1, 1, 1)
    bad, good, old = summary["files"]
    assert [one["status"] for one in summary["files"]] == ["failed", "done", "skipped"]
    assert (bad["input"], bad["output"]) == ("in/bad.wav", None)
    assert bad["error"].startswith("in/bad.wav: no audio format")
    assert (good["input"], good["output"], good["error"]) == ("in/good.wav", "in/good.dac", None)
    assert (old["input"], old["output"], old["facts"]) == ("in/old.wav", "in/old.dac", {})
    num_bytes = Path("in/good.dac").stat().st_size
    assert good["facts"] == {
        "duration_s": NUM_SAMPLES / RATE,
        "channels": 1,
        "codebooks": 3,
        "frames": 11,
        "bytes": num_bytes,
        "file_bitrate": pytest.approx(8 * num_bytes * RATE / NUM_SAMPLES),
    }
    finished.assert_failed_in_part(
        "1 encoded, 1 skipped (output exists; --overwrite replaces it), 1 failed", ["in/bad.wav"]
    )


def test_json_of_decoding_says_what_was_decoded(coding):
    write_codes("song.dac")
    finished = coding("decode", "song.dac", "--json").assert_succeeded()
    (song,) = json.loads(finished.out)["files"]
    assert song["output"] == "song.wav"
    assert Path(song["facts"].pop("model")).name.startswith("tiny_dac")
    assert song["facts"] == {
        "duration_s": NUM_SAMPLES / RATE,
        "channels": 1,
        "sampling_rate": RATE,
    }


def test_files_are_done_and_told_in_order_of_their_names(coding, monkeypatch):
    names = ["in/A.wav", "in/b.wav", "in/c/a.wav", "in/d/a.wav"]
    for name in names:
        write_audio(name)
    scandir = os.scandir
    listings = []
    for listing in (scandir, lambda folder: Backwards(scandir(folder))):
        monkeypatch.setattr(os, "scandir", listing)
        summary = json.loads(coding("encode", "in", "--json", "--overwrite").out)
        listings.append([one["input"] for one in summary["files"]])
    assert listings == [names, names]


class Backwards:
    """The entries of `os.scandir` from Z to A, as no file system promises not to give them."""

    def __init__(self, entries):
        self._entries = sorted(entries, key=lambda entry: entry.name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._entries.clear()

    def __iter__(self):
        return self

    def __next__(self):
        if not self._entries:
            raise StopIteration
        return self._entries.pop()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_several_files_have_a_progress_bar_on_a_terminal(coding, monkeypatch):
    for name in ("one", "two", "three"):
        write_audio(f"in/{name}.wav")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert coding("encode", "in").status == 0
    assert "3/3" in terminal.getvalue()
    assert terminal.getvalue().endswith("\ncodax: 3 encoded, 0 failed\n")


def test_one_file_has_no_progress_bar(coding, monkeypatch):
    write_audio("song.wav")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert coding("encode", "song.wav").status == 0
    assert terminal.getvalue() == ""


def test_codes_are_the_same_whichever_way_a_file_is_given(coding):
    write_audio("in/song.wav", num_samples=NUM_SAMPLES)
    coding("encode", "in/song.wav", "-o", "one.dac")
    coding("encode", "in", "-o", "two")
    np.testing.assert_array_equal(
        EncodedAudio.load("one.dac").codes, EncodedAudio.load("two/song.dac").codes
    )
