"""EnCodec inputs that cannot be done: one line with the reason, and nothing written."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import soundfile

from codax import EncodedAudio
from codax.codec import language_models
from codax.formats import codax_bytes, ecdc_bytes
from tests.tiny_encodec import NARROW_24KHZ, write_tiny_encodec
from tests.tiny_encodec_lm import use_tiny_lms, write_tiny_lm

from .running import (
    NUM_SAMPLES,
    RATE,
    files_below,
    finish,
    left_as_it_was,
    start,
    write_audio,
    write_codes,
)

# One frame of two codebooks, 3 bytes.
CLIP = EncodedAudio(
    np.array([[[1], [2]]]), sampling_rate=24000, num_samples=NUM_SAMPLES, model="encodec_24khz"
)
# 105 frames in three segments, as the tiny stereo model makes them.
STEREO_CLIP = EncodedAudio(
    np.arange(105).reshape(1, 1, 105) % 16,
    sampling_rate=RATE,
    num_samples=1000,
    channels_per_stream=2,
    segment_frames=(40, 40, 25),
    scales=[[0.1, 0.2, 0.3]],
)
ECDC, CODAX = ecdc_bytes(CLIP), codax_bytes(CLIP)


def ecdc(payload=bytes(3), **fields):
    """An `.ecdc` file of one frame of two codebooks, but for `fields` of its header."""
    return ecdc_with(
        json.dumps({"m": "encodec_24khz", "al": 99, "nc": 2, "lm": False} | fields), payload
    )


def ecdc_with(text, payload=bytes(3)):
    return b"ECDC\0" + len(text).to_bytes(4, "big") + text.encode() + payload


def codax_with(**changes):
    """`CODAX` with other metadata; None takes an entry away."""
    stop = 8 + int.from_bytes(CODAX[:8], "little")
    header = json.loads(CODAX[8:stop])
    metadata = header["__metadata__"] | changes
    header["__metadata__"] = {key: value for key, value in metadata.items() if value is not None}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + CODAX[stop:]


# --- bandwidths ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "-6.4", "6", "1e9", "nan", "inf", "6.400001"])
def test_a_bandwidth_that_the_model_does_not_have_is_refused_with_those_it_has(mono, value):
    write_audio("song.wav")
    refusal = mono("encode", "song.wav", f"--bandwidth={value}")
    refusal.assert_failed("song.wav", f"bandwidth={float(value)!r}", "3.2, 6.4, 12.8")
    assert files_below() == ["song.wav"]


@pytest.mark.parametrize("value", ["text", "6 kbps", ""])
def test_a_bandwidth_that_is_no_number_is_refused_by_the_parser(mono, value):
    write_audio("song.wav")
    refusal = mono("encode", "song.wav", "--bandwidth", value)
    assert (refusal.status, refusal.out) == (2, "")
    assert "argument --bandwidth: invalid float value" in refusal.err.splitlines()[-1]
    assert files_below() == ["song.wav"]


def test_a_bandwidth_and_a_number_of_codebooks_at_once_are_refused_by_the_parser(mono):
    refusal = mono("encode", "song.wav", "--bandwidth", 6.4, "--n-quantizers", 2)
    assert refusal.status == 2
    assert "--n-quantizers: not allowed with argument --bandwidth" in refusal.err


@pytest.mark.parametrize("number", [0, -1, 5])
def test_codebooks_that_the_model_does_not_have_are_refused(mono, number):
    write_audio("song.wav")
    refusal = mono("encode", "song.wav", "--n-quantizers", number)
    refusal.assert_failed("song.wav", f"n_quantizers={number}", "from 1 to 4")
    assert files_below() == ["song.wav"]


def test_a_bandwidth_asked_of_dac_is_refused_with_what_it_takes_instead(coding):
    write_audio("song.wav")
    coding("encode", "song.wav", "--bandwidth", 6).assert_failed("bandwidth=6.0", "n_quantizers")
    assert files_below() == ["song.wav"]


# --- channels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_stereo_model_refuses_other_than_two_channels_and_says_how_to_mix(stereo, channels):
    write_audio("song.wav", channels)
    refusal = stereo("encode", "song.wav")
    refusal.assert_failed("song.wav", f"{channels} channels", "takes 2", "--mix")
    assert files_below() == ["song.wav"]


def test_three_channels_are_not_mixed_to_two(stereo):
    write_audio("song.wav", channels=3)
    refusal = stereo("encode", "song.wav", "--mix")
    refusal.assert_failed("song.wav", "3 channels", "only mono or to mono")
    assert files_below() == ["song.wav"]


def test_of_a_folder_only_the_mono_files_fail(stereo):
    write_audio("in/a.wav", channels=2)
    write_audio("in/b.wav")
    finished = stereo("encode", "in", "-o", "out", "--bandwidth", 3.2)
    finished.assert_failed_in_part("1 encoded, 1 failed", ["in/b.wav: ", "1 channels", "--mix"])
    assert files_below("out") == ["a.codax"]


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [("--format", "dac"), ("-o", "song.dac")])
def test_dac_files_are_refused_for_encodecs_codes(mono, encodec_mono_folder, options):
    write_audio("song.wav")
    refusal = mono("encode", "song.wav", *options)
    refusal.assert_failed(encodec_mono_folder, "only DAC's codes go into .dac files")
    assert files_below() == ["song.wav"]


def test_ecdc_files_are_refused_for_codes_of_any_other_model(mono, coding):
    write_audio("song.wav")
    for run in (mono, coding):
        refusal = run("encode", "song.wav", "--format", "ecdc")
        refusal.assert_failed("song.wav", "model is", "allowed", "encodec_24khz, encodec_48khz")
        assert files_below() == ["song.wav"]


def test_ecdc_files_of_the_mono_model_are_refused_for_stereo(codax):
    write_tiny_encodec("encodec_24khz", NARROW_24KHZ)
    write_audio("song.wav", channels=2, sampling_rate=24000)
    before = files_below()
    arguments = ("--model", "encodec_24khz", "--bandwidth", 3, "--format", "ecdc")
    codax("encode", "song.wav", *arguments).assert_failed("song.wav", "channels is 2", "allowed")
    assert files_below() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "packed", "-o", "song.ecdc"), ["song.ecdc", ".codax files are written"]),
        (("--format", "ecdc", "-o", "song.codax"), ["song.codax", ".ecdc files are written"]),
        (("-o", "song.wav.flac"), ["song.wav.flac", ".codax files are written"]),
    ],
)
def test_a_format_and_an_output_that_contradict_each_other_are_refused(mono, options, words):
    write_audio("song.wav")
    mono("encode", "song.wav", *options).assert_failed(*words)
    assert files_below() == ["song.wav"]


def test_an_unknown_format_is_refused_by_the_parser(mono):
    refusal = mono("encode", "song.wav", "--format", "codax")
    assert refusal.status == 2
    assert "invalid choice: 'codax'" in refusal.err.splitlines()[-1]


# --- language models -----------------------------------------------------------------------------


@pytest.fixture
def lm_arguments(codax, monkeypatch):
    """For `encode`: a codec in the folder encodec_24khz, with its language model in lm."""
    use_tiny_lms(monkeypatch)
    language_models._loaded.cache_clear()  # it goes by paths, which mean another folder each time
    write_tiny_encodec("encodec_24khz", NARROW_24KHZ)
    write_tiny_lm("lm", "encodec_24khz")
    write_audio("song.wav", sampling_rate=24000)
    yield ("song.wav", "--model", "encodec_24khz", "--bandwidth", 3, "--format", "ecdc", "--lm")
    language_models._loaded.cache_clear()


def test_a_file_with_a_language_model_comes_back_with_the_same_one(codax, lm_arguments):
    codax("encode", *lm_arguments, "--lm-weights", "lm").assert_succeeded("song.ecdc")
    assert b'"lm": true' in Path("song.ecdc").read_bytes()
    codax("decode", "song.ecdc", "--lm-weights", "lm", "-o", "back.wav").assert_succeeded()
    assert soundfile.info("back.wav").frames == NUM_SAMPLES


def test_info_describes_a_file_whose_language_model_is_not_at_hand(codax, lm_arguments):
    codax("encode", *lm_arguments, "--lm-weights", "lm").assert_succeeded()
    facts = json.loads(codax("info", "song.ecdc", "--json").assert_succeeded().out)
    assert (facts["model"], facts["codebooks"], facts["frames"]) == ("encodec_24khz", 4, 1)
    assert (facts["sampling_rate"], facts["channels"]) == (24000, 1)
    assert facts["bytes"] == Path("song.ecdc").stat().st_size


def test_other_weights_of_the_language_model_are_found_out(codax, lm_arguments):
    write_tiny_lm("other", "encodec_24khz", seed=1)
    codax("encode", *lm_arguments, "--lm-weights", "lm").assert_succeeded()
    before = files_below()
    refusal = codax("decode", "song.ecdc", "--lm-weights", "other", "-o", "back.wav")
    refusal.assert_failed("song.ecdc", "did not repeat bit for bit")
    assert files_below() == before


def test_the_language_model_of_another_codec_is_refused(codax, lm_arguments):
    write_tiny_lm("lm48", "encodec_48khz")
    before = files_below()
    refusal = codax("encode", *lm_arguments, "--lm-weights", "lm48")
    refusal.assert_failed("song.wav", "m is encodec_24khz", "for encodec_48khz")
    assert files_below() == before


@pytest.mark.parametrize("name", ["missing.safetensors", "song.wav"])
def test_what_is_no_language_model_is_refused_by_name(codax, lm_arguments, name):
    pytest.importorskip("torch", reason="anything but .safetensors is read by torch")
    before = files_below()
    codax("encode", *lm_arguments, "--lm-weights", name).assert_failed(name)
    assert files_below() == before


def test_without_the_released_one_and_network_the_file_that_is_missing_is_told(
    codax, lm_arguments, monkeypatch, tmp_path_factory
):
    pytest.importorskip("torch", reason="the released one is converted by torch")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = files_below()
    refusal = codax("encode", *lm_arguments)
    refusal.assert_failed("song.wav", "encodec_lm_24khz-1608e3c0.th", "HF_HUB_OFFLINE")
    assert files_below() == before


def test_weights_of_a_language_model_without_lm_are_refused(mono):
    write_audio("song.wav")
    mono("encode", "song.wav", "--lm-weights", "lm.th").assert_failed("--lm-weights", "--lm")
    assert files_below() == ["song.wav"]


@pytest.mark.parametrize("options", [(), ("--format", "packed"), ("-o", "song.codax")])
def test_a_language_model_for_other_than_ecdc_files_is_refused(mono, options):
    write_audio("song.wav")
    refusal = mono("encode", "song.wav", "--lm", *options)
    refusal.assert_failed("--lm", "--format ecdc", ".codax")
    assert files_below() == ["song.wav"]


# --- damaged and hostile files -------------------------------------------------------------------

MODELS = "encodec_24khz, encodec_48khz"
BAD_ECDC = {
    "empty": (b"", ["has 0 bytes"]),
    "text": (b"These are no codes.", ["begins with b'Thes'", "ECDC"]),
    "wrong magic": (b"ECDX" + ECDC[4:], ["begins with b'ECDX'", "ECDC"]),
    "version 1": (b"ECDC\1" + ECDC[5:], ["version 1", "allowed: 0"]),
    "huge header": (b"ECDC\0\xff\xff\xff\xff" + ECDC[9:], ["4294967295", "allowed: up to 4096"]),
    "header alone": (ECDC[:-3], ["al is 99", "allowed"]),
    "short payload": (ECDC[:-1], ["al is 99", "allowed"]),
    "long payload": (ECDC + b"\0", ["1 bytes follow", "allowed: none"]),
    "no JSON": (ecdc_with("{'m': 1}"), ["header", "no JSON"]),
    "no object": (ecdc_with("[]"), ["header", "a JSON object"]),
    "unknown model": (ecdc(m="encodec_32khz"), ["'encodec_32khz'", "allowed", MODELS]),
    "no model": (ecdc(m=None), ["m is None", "allowed", MODELS]),
    "no codebooks": (ecdc(nc=0), ["nc is 0", "allowed: 1 to 32"]),
    "too many codebooks": (ecdc(nc=33), ["nc is 33", "allowed: 1 to 32"]),
    "too many for 48 kHz": (ecdc(m="encodec_48khz", nc=17), ["nc is 17", "allowed: 1 to 16"]),
    "no samples": (ecdc(al=0), ["al is 0", "allowed: a positive integer"]),
    "a week of samples": (ecdc(al=10**13), ["al is 10000000000000", "allowed: up to"]),
    "unknown key": (ecdc(mood="sad"), ["'mood'", "allowed: al, lm, m, nc"]),
}
BAD_CODAX = {
    "empty": (b"", ["no safetensors"]),
    "text": (b"These are no codes.", ["no safetensors"]),
    "huge header": (b"\xff\xff\xff\xff\0\0\0\0" + CODAX[8:], ["4294967295", "allowed: up to"]),
    "short payload": (CODAX[:-1], ["bytes", "allowed"]),
    "long payload": (CODAX + b"\0", ["bytes", "allowed"]),
    "weights": (safetensors.numpy.save({"weight": np.zeros(3)}), ["version None", "allowed: '1'"]),
    "version 2": (codax_with(codax="2"), ["version '2'", "allowed: '1'"]),
    "no shape": (codax_with(shape=None), ["lacks 'shape'", "needed"]),
    "unknown key": (codax_with(mood="sad"), ["'mood'", "allowed"]),
    "more codes": (codax_with(shape="1,2,1000000"), ["codes is not described as"]),
    "a billion codes": (codax_with(shape="1,1000,1000000"), ["1000000000 codes", "allowed"]),
    "a week of samples": (codax_with(samples="10000000000000"), ["num_samples", "allowed"]),
    "no rate": (codax_with(hz="0"), ["hz is '0'", "allowed"]),
}
BAD_FILES = {
    **{("song.ecdc", fault): case for fault, case in BAD_ECDC.items()},
    **{("song.codax", fault): case for fault, case in BAD_CODAX.items()},
}


@pytest.mark.parametrize("command", ["decode", "info"])
@pytest.mark.parametrize(("name", "fault"), BAD_FILES)
def test_a_damaged_file_is_refused_by_name(codax, command, name, fault):
    """Before any model is loaded: the one that it names is not there."""
    content, words = BAD_FILES[name, fault]
    Path(name).write_bytes(content)
    codax(command, name).assert_failed(f"codax: {name}: ", *words)
    assert files_below() == [name]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codes": np.full((1, 1, 105), 16)}, ["codes reach 16", "allowed: 0 to 15"]),
        ({"codes": np.zeros((1, 4, 105), int)}, ["4 codebooks", "allowed: up to 3"]),
        ({"segment_frames": (5, 60, 40)}, ["segments of 5 to 60 frames", "allowed: 38 to 40"]),
        ({"segment_frames": (1,) * 105, "scales": [[1.0] * 105]}, ["segments of 1 to 1 frames"]),
        ({"segment_frames": None, "scales": [[1.0]]}, ["segments of 105", "allowed: 38 to 40"]),
        ({"scales": None}, ["scales are missing"]),
        ({"channels_per_stream": 1}, ["1 channels", "allowed: 2"]),
        ({"num_samples": 9000}, ["num_samples is 9000", "allowed"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_codes_that_the_named_model_cannot_have_made_are_refused(
    codax, encodec_stereo_folder, changes, words
):
    clip = dataclasses.replace(STEREO_CLIP, model=str(encodec_stereo_folder), **changes)
    clip.save("song.codax")
    codax("decode", "song.codax").assert_failed("song.codax: ", *words)
    assert files_below() == ["song.codax"]


@pytest.mark.parametrize("name", ["nonsense", "no/such/folder", "dac_12khz"])
def test_a_file_of_a_model_that_is_not_there_is_refused_with_its_name(codax, name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    dataclasses.replace(CLIP, model=name).save("song.codax")
    codax("decode", "song.codax").assert_failed("song.codax", name)
    assert files_below() == ["song.codax"]


def test_a_file_of_the_other_model_is_refused(mono, stereo):
    dataclasses.replace(CLIP, model=None).save("mono.codax")
    STEREO_CLIP.save("stereo.codax")
    mono("decode", "stereo.codax").assert_failed("stereo.codax", "2 channels", "allowed: 1")
    stereo("decode", "mono.codax").assert_failed("mono.codax", "1 channels", "allowed: 2")
    assert files_below() == ["mono.codax", "stereo.codax"]


def test_one_damaged_file_is_told_and_the_others_are_done(codax, encodec_stereo_folder):
    clip = dataclasses.replace(STEREO_CLIP, model=str(encodec_stereo_folder))
    Path("in").mkdir()
    for name in ("a", "c"):
        clip.save(f"in/{name}.codax")
    Path("in/b.ecdc").write_bytes(ECDC[:-1])
    finished = codax("decode", "in", "-o", "out")
    finished.assert_failed_in_part("2 decoded, 1 failed", ["in/b.ecdc: ", "al is 99"])
    assert files_below("out") == ["a.wav", "c.wav"]


# A scale is a positive float32, so decoded audio may be beyond what float32 holds.
LARGEST_SCALE = 3e38


@pytest.fixture
def loud(codax, encodec_stereo_folder):
    clip = dataclasses.replace(
        STEREO_CLIP, scales=[[LARGEST_SCALE] * 3], model=str(encodec_stereo_folder)
    )
    clip.save("loud.codax")
    return "loud.codax"


def test_audio_beyond_all_bounds_is_refused_or_turned_down(codax, loud):
    finished = codax("decode", loud, "--rescale", "-o", "loud.wav")
    if finished.status:
        finished.assert_failed(loud)
        assert files_below() == [loud]
    else:
        samples, _ = soundfile.read("loud.wav")
        assert np.abs(samples).max() == pytest.approx(0.99, abs=1e-3)
        assert samples.std() > 0.01


def test_audio_beyond_all_bounds_does_not_end_the_process(loud):
    """An encoder may rely on audio that is about of full scale."""
    finished = finish(start("decode", loud, "-o", "loud.mp3"))
    assert finished.status in (0, 1), finished
    assert len(finished.err.splitlines()) == finished.status
    assert files_below() == ([loud] if finished.status else [loud, "loud.mp3"])


# --- outputs that cannot be written --------------------------------------------------------------


@pytest.mark.parametrize("old_content", [None, "mine"])
def test_a_full_disk_is_told_and_leaves_what_was_there(mono, largest_file, old_content):
    write_audio("song.wav")
    with left_as_it_was("song.codax", old_content):
        with largest_file(100):
            refusal = mono("encode", "song.wav", "--bandwidth", 3.2, "--overwrite")
        refusal.assert_failed("song.wav: song.codax: File too large")


def test_a_failed_encoding_leaves_the_old_output(mono):
    write_audio("song.wav")
    write_codes("song.codax")
    before = Path("song.codax").read_bytes()
    mono("encode", "song.wav", "--bandwidth", 7, "--overwrite").assert_failed("bandwidth=7.0")
    assert Path("song.codax").read_bytes() == before
