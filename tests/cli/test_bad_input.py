"""Inputs that cannot be done: one line that names the file and the reason, and nothing written."""

import io
import json
import os
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from codax import AudioCodec, EncodedAudio

from .running import NUM_SAMPLES, RATE, files_below, left_as_it_was, write_audio, write_codes


def wav_bytes(samples, subtype="FLOAT"):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype=subtype)
    return file.getvalue()


NAN_AT_7 = np.where(np.arange(99) == 7, np.nan, 0.1)
M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0"


# --- audio to encode -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("text.wav", b"These are no samples.", "no audio format that can be read"),
        ("nothing.wav", b"", "no audio format that can be read"),
        ("song.m4a", M4A, "convert .m4a, .aac and others to .wav"),
        ("silent.wav", wav_bytes(np.zeros(0)), "at least one"),
        ("nan.wav", wav_bytes(NAN_AT_7), "is nan; audio must be finite"),
        ("half.flac", b"fLaC\0\0\0\x22", "half.flac: "),
        ("six.wav", wav_bytes(np.zeros((99, 6))), "1 to 5 channels"),
        ("song.dac.txt", b"no suffix of audio", "no audio format that can be read"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else value,
)
@pytest.mark.parametrize("options", [(), ("-o", "out"), ("-o", "new.dac")])
def test_what_is_no_audio_is_refused_by_name(coding, name, content, reason, options):
    Path(name).write_bytes(content)
    coding("encode", name, *options).assert_failed(name, reason)
    assert [found for found in files_below() if found != "out"] == [name]


def test_more_channels_than_loudness_is_defined_for_are_refused_with_the_way_out(coding):
    write_audio("six.wav", channels=6)
    coding("encode", "six.wav").assert_failed("six.wav", "--no-loudness")
    coding("encode", "six.wav", "--no-loudness").assert_succeeded()


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_missing_input_is_refused_before_anything_is_done(coding, command):
    write_audio("song.wav")
    write_codes("codes.dac")
    before = files_below()
    there = {"encode": "song.wav", "decode": "codes.dac"}[command]
    coding(command, there, "missing.wav").assert_failed("missing.wav", "no such file")
    assert files_below() == before


@pytest.mark.parametrize(("command", "suffix"), [("encode", ".wav"), ("decode", ".dac")])
def test_a_folder_with_nothing_to_do_is_refused(coding, command, suffix):
    Path("empty/deeper").mkdir(parents=True)
    Path("empty/readme.txt").write_text("")
    coding(command, "empty").assert_failed("empty", "no files", suffix)


@pytest.mark.parametrize("number", [0, -1, 4, 1000])
def test_codebooks_that_the_model_does_not_have_are_refused(coding, number):
    write_audio("song.wav")
    refusal = coding("encode", "song.wav", "--n-quantizers", number)
    refusal.assert_failed("song.wav", f"n_quantizers={number} must be an integer from 1 to 3")
    assert files_below() == ["song.wav"]


@pytest.mark.parametrize("number", ["two", "2.5", ""])
def test_codebooks_that_are_no_number_are_refused_by_the_parser(codax, number):
    refusal = codax("encode", "song.wav", "--n-quantizers", number)
    assert refusal.status == 2
    assert "argument --n-quantizers: invalid int value" in refusal.err.splitlines()[-1]


def test_a_file_named_like_part_of_a_message_is_named_all_the_same(coding):
    write_audio("1", format="WAV")
    coding("encode", "1", "--n-quantizers", 1000).assert_failed("codax: 1: ")


# --- files to decode -----------------------------------------------------------------------------


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def npy(content):
    file = io.BytesIO()
    np.save(file, content)
    return file.getvalue()


@pytest.fixture
def good_bytes(codax):
    """Of a `.dac` file that decodes; `codax` makes the folder that it is written to."""
    path = write_codes("good.dac")
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize("kept", [0, 1, 8, 64, 128, 300, -1])
def test_a_file_that_breaks_off_is_refused(coding, good_bytes, kept):
    Path("half.dac").write_bytes(good_bytes[:kept])
    coding("decode", "half.dac").assert_failed("half.dac: damaged")
    assert files_below() == ["half.dac"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(np.array(Hostile(), dtype=object)), "system"),
        (pickle.dumps(Hostile()), "damaged"),
        (npy(np.zeros((1, 3, 11))), "song.dac: "),
        (b"These are no codes.", "damaged"),
        (wav_bytes(np.zeros(99)), "damaged"),
        (b"\0" * 10_000, "damaged"),
    ],
    ids=["hostile", "bare pickle", "array", "text", "audio", "zeros"],
)
def test_what_is_no_dac_file_is_refused_and_never_run(coding, content, reason):
    Path("song.dac").write_bytes(content)
    coding("decode", "song.dac").assert_failed("song.dac", reason)
    assert files_below() == ["song.dac"]


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        (np.zeros((1, 4, 11), int), "codes use 4 codebooks, allowed: up to 3"),
        (np.full((1, 3, 11), 16), "codes reach 16, allowed: 0 to 15"),
    ],
)
def test_codes_of_another_model_are_refused(coding, codes, reason):
    write_codes("song.dac", codes)
    coding("decode", "song.dac").assert_failed("song.dac", reason)
    assert files_below() == ["song.dac"]


def test_more_channels_than_a_format_has_are_refused(coding):
    write_codes("many.dac", np.zeros((9, 3, 11), int), input_db=None)
    coding("decode", "many.dac", "--format", "flac").assert_failed("many.dac", "many.flac")
    assert files_below() == ["many.dac"]


def test_a_rate_that_a_format_does_not_have_is_refused(coding):
    write_codes("fast.dac", sampling_rate=96000)
    coding("decode", "fast.dac", "--format", "mp3").assert_failed("fast.dac", "fast.mp3")
    assert files_below() == ["fast.dac"]


def test_another_suffix_is_refused(coding):
    Path("song.npy").write_bytes(b"")
    coding("decode", "song.npy").assert_failed("song.npy", "allowed: .dac")


def test_a_folder_in_place_of_a_file_is_refused(coding):
    Path("song.dac").mkdir()
    coding("decode", "song.dac").assert_failed("song.dac", "no files")


# --- some good, some bad -------------------------------------------------------------------------


def test_one_bad_file_is_told_at_the_end_and_the_others_are_done(coding):
    write_audio("in/a.wav")
    Path("in/b.wav").write_text("not audio")
    write_audio("in/c.wav")
    Path("in/d.m4a").write_bytes(M4A)
    finished = coding("encode", "in", "-o", "out")
    finished.assert_failed_in_part(
        "2 encoded, 2 failed", ["in/b.wav: no audio format"], ["in/d.m4a: no audio format"]
    )
    assert files_below("out") == ["a.dac", "c.dac"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 99 bytes."),
        OSError(5, "Input/output error"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_file_that_does_not_fit_into_memory_fails_alone(coding, monkeypatch, error):
    for name in ("a", "too long", "z"):
        write_audio(f"in/{name}.wav")
    encode = AudioCodec.encode

    def fail_for_one(codec, source, **options):
        if source.stem == "too long":
            raise error
        return encode(codec, source, **options)

    monkeypatch.setattr(AudioCodec, "encode", fail_for_one)
    finished = coding("encode", "in")
    finished.assert_failed_in_part("2 encoded, 1 failed", ["in/too long.wav: "])


def test_json_is_printed_though_files_failed(coding):
    Path("bad.wav").write_text("not audio")
    finished = coding("encode", "bad.wav", "--json").assert_failed("bad.wav")
    assert json.loads(finished.out)["failed"] == 1


@pytest.fixture
def unreadable(monkeypatch):
    """Makes a folder unreadable, also for root."""
    scandir = os.scandir

    def make(name):
        def scan(folder):
            if os.path.basename(folder) == name:
                raise PermissionError(13, "Permission denied", str(folder))
            return scandir(folder)

        monkeypatch.setattr(os, "scandir", scan)

    return make


def test_an_unreadable_folder_is_told_and_the_others_are_done(coding, unreadable):
    write_audio("in/a.wav")
    write_audio("in/private/b.wav")
    unreadable("private")
    finished = coding("encode", "in", "-o", "out")
    finished.assert_failed_in_part("1 encoded, 1 failed", ["codax: in/private: Permission denied"])
    assert files_below("out") == ["a.dac"]


def test_an_unreadable_input_folder_is_told(coding, unreadable):
    write_audio("private/b.wav")
    unreadable("private")
    coding("encode", "private").assert_failed("codax: private: Permission denied")


def test_an_unreadable_file_is_told(coding, monkeypatch):
    write_audio("song.wav")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", str(path))

    opening = "codax.feature_extraction.audio_input.open"
    monkeypatch.setattr(opening, refuse, raising=False)
    coding("encode", "song.wav").assert_failed("codax: song.wav: Permission denied")


def test_a_link_to_nothing_is_told(coding):
    Path("in").mkdir()
    Path("in/song.wav").symlink_to("nowhere.wav")
    coding("encode", "in").assert_failed("in/song.wav", "No such file")


def test_a_link_back_to_its_own_folder_is_not_followed(coding):
    write_audio("in/song.wav")
    Path("in/again").symlink_to("../in")
    coding("encode", "in").assert_succeeded("in/song.dac")


# --- outputs that cannot be written --------------------------------------------------------------


@pytest.mark.parametrize("output", ["file", "file/below", "file/below/song.dac"])
def test_an_output_folder_that_is_a_file_is_told(coding, output):
    write_audio("song.wav")
    Path("file").write_text("mine")
    coding("encode", "song.wav", "-o", output).assert_failed("song.wav", "file")
    assert files_below() == ["file", "song.wav"]
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_folder_in_place_of_the_output_is_told(coding, options):
    write_audio("song.wav")
    Path("song.dac").mkdir()
    coding("encode", "song.wav", *options).assert_failed("song.dac")
    assert files_below() == ["song.dac", "song.wav"]


def test_a_protected_output_folder_is_told(coding, monkeypatch):
    write_audio("song.wav")

    def refuse(**options):
        raise PermissionError(13, "Permission denied", str(options["dir"] / "temporary"))

    monkeypatch.setattr("codax.files.tempfile.mkstemp", refuse)
    coding("encode", "song.wav").assert_failed("song.wav: song.dac: Permission denied")


@pytest.mark.parametrize("old_content", [None, "mine"])
def test_a_full_disk_is_told_and_leaves_what_was_there(coding, largest_file, old_content):
    write_audio("song.wav")
    with left_as_it_was("song.dac", old_content):
        with largest_file(300):
            finished = coding("encode", "song.wav", "--overwrite")
        finished.assert_failed("song.wav: song.dac: File too large")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_full_disk_is_told_when_decoding(coding, largest_file, suffix):
    """99 samples are fewer than an encoder holds back until the end."""
    write_codes("song.dac")
    coding("decode", "song.dac", "--format", suffix).assert_succeeded()
    whole = Path(f"song.{suffix}").read_bytes()
    with largest_file(len(whole) - 1):
        finished = coding("decode", "song.dac", "--format", suffix, "--overwrite")
    finished.assert_failed("song.dac", f"song.{suffix}", "File too large")
    assert Path(f"song.{suffix}").read_bytes() == whole
    assert files_below() == sorted(["song.dac", f"song.{suffix}"])


def test_a_full_disk_fails_every_file_by_name(coding, largest_file):
    for name in ("a", "b"):
        write_audio(f"in/{name}.wav")
    with largest_file(300):
        finished = coding("encode", "in", "-o", "out")
    finished.assert_failed_in_part("0 encoded, 2 failed", ["in/a.wav"], ["in/b.wav"])
    assert files_below("out") == []


def test_a_failed_encoding_leaves_the_old_output(coding):
    Path("song.wav").write_text("not audio")
    before = write_codes("song.dac").read_bytes()
    coding("encode", "song.wav", "--overwrite").assert_failed("song.wav")
    assert Path("song.dac").read_bytes() == before
    assert EncodedAudio.load("song.dac").num_samples == NUM_SAMPLES
