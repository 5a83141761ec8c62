"""`codax encode`, `decode`, `info` and `convert` with EnCodec models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codax import AudioCodec, EncodedAudio, FlaxEncodecModel
from codax.formats import read_ecdc
from tests.tiny_encodec import NARROW_24KHZ, NARROW_48KHZ, write_tiny_encodec

from .running import NUM_SAMPLES, RATE, files_below, write_audio, write_codes

EIGHT_FRAMES = 8 * 320  # of the released models
STEREO_SAMPLES = 1000  # segments of 400, 400 and 248 samples


@pytest.fixture(scope="session")
def released_folders(tmp_path_factory, tiny_folder):
    """HF_HOME with converted models in place of the released ones, of the same rates."""
    home = tmp_path_factory.mktemp("home")
    models = home / "codax" / "models"
    for name, fields in (("encodec_24khz", NARROW_24KHZ), ("encodec_48khz", NARROW_48KHZ)):
        write_tiny_encodec(models / name, fields)
    shutil.copytree(tiny_folder, models / "dac_44khz")
    return home


@pytest.fixture
def released(codax, released_folders, monkeypatch):
    """As `codax`, with the models of `released_folders` in the cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(released_folders))
    return codax


def facts_of(name):
    info = soundfile.info(name)
    return info.channels, info.samplerate, info.frames


# --- there and back ------------------------------------------------------------------------------


def test_a_file_becomes_a_codax_file_that_decodes_without_naming_a_model(
    codax, mono, encodec_mono_folder
):
    write_audio("song.wav")
    mono("encode", "song.wav").assert_succeeded("song.wav -> song.codax")
    assert files_below() == ["song.codax", "song.wav"]
    encoded = EncodedAudio.load("song.codax")
    assert encoded.model == str(encodec_mono_folder)
    assert (encoded.codes.shape, encoded.num_samples) == ((1, 4, 10), NUM_SAMPLES)
    codax("decode", "song.codax", "-o", "back.wav").assert_succeeded("song.codax -> back.wav")
    assert facts_of("back.wav") == (1, RATE, NUM_SAMPLES)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_stereo_file_of_several_segments_comes_back_whole(codax, stereo, suffix):
    write_audio(f"song{suffix}", channels=2, num_samples=STEREO_SAMPLES)
    stereo("encode", f"song{suffix}", "--bandwidth", 3.2).assert_succeeded()
    encoded = EncodedAudio.load("song.codax")
    assert (encoded.segment_frames, encoded.scales.shape) == ((40, 40, 25), (1, 3))
    codax("decode", "song.codax", "-o", "back.flac").assert_succeeded()
    assert facts_of("back.flac") == (2, RATE, STEREO_SAMPLES)


def test_files_hold_what_the_codec_makes_in_python(mono, encodec_mono_folder):
    write_audio("song.wav")
    mono("encode", "song.wav", "--bandwidth", 3.2).assert_succeeded()
    codec = AudioCodec.from_pretrained(encodec_mono_folder)
    expected = codec.encode("song.wav", bandwidth=3.2)
    assert EncodedAudio.load("song.codax") == expected
    mono("decode", "song.codax", "-o", "back.wav").assert_succeeded()
    samples, _ = soundfile.read("back.wav", dtype="float32")
    decoded = codec.decode(expected).samples.clip(-1, 1)
    np.testing.assert_allclose(samples, decoded[0], atol=2**-15)


@pytest.mark.parametrize(("bandwidth", "codebooks"), [("3.2", 1), ("6.4", 2), ("12.8", 4)])
def test_a_bandwidth_gives_the_codebooks_that_it_holds(mono, bandwidth, codebooks):
    write_audio("song.wav")
    mono("encode", "song.wav", "--bandwidth", bandwidth).assert_succeeded()
    assert EncodedAudio.load("song.codax").num_codebooks == codebooks


def test_codebooks_may_be_asked_for_by_number(mono):
    write_audio("song.wav")
    mono("encode", "song.wav", "--n-quantizers", 2).assert_succeeded()
    assert EncodedAudio.load("song.codax").num_codebooks == 2


def test_the_default_is_6_kbps(released):
    write_audio("song.wav", num_samples=EIGHT_FRAMES, sampling_rate=24000)
    released("encode", "song.wav", "--model", "encodec_24khz").assert_succeeded()
    assert EncodedAudio.load("song.codax").num_codebooks == 8


@pytest.mark.parametrize(
    ("model", "channels", "sampling_rate"),
    [("encodec_24khz", 1, 24000), ("encodec_48khz", 2, 48000)],
)
@pytest.mark.parametrize("options", [("--format", "ecdc"), ("-o", "song.ecdc")])
def test_an_ecdc_file_names_the_released_model_and_decodes_with_it(
    released, model, channels, sampling_rate, options
):
    write_audio("song.wav", channels, EIGHT_FRAMES, sampling_rate)
    arguments = ("song.wav", "--model", model, "--bandwidth", 3, *options)
    released("encode", *arguments).assert_succeeded("song.wav -> song.ecdc")
    encoded = read_ecdc("song.ecdc")
    assert (encoded.model, encoded.num_samples) == (model, EIGHT_FRAMES)
    released("decode", "song.ecdc", "-o", "back.wav").assert_succeeded("back.wav")
    assert facts_of("back.wav") == (channels, sampling_rate, EIGHT_FRAMES)


def test_the_format_of_the_file_follows_the_option_or_the_output(mono):
    write_audio("song.wav")
    mono("encode", "song.wav", "--format", "packed").assert_succeeded("song.codax")
    mono("encode", "song.wav", "-o", "new/other.codax").assert_succeeded("new/other.codax")
    assert Path("song.codax").read_bytes() == Path("new/other.codax").read_bytes()


def test_an_existing_folder_does_not_choose_the_format_by_its_name(codax, mono):
    """It is a folder once it exists, whatever its name ends in."""
    write_audio("song.wav")
    Path("album.dac").mkdir()
    mono("encode", "song.wav", "-o", "album.dac").assert_succeeded("album.dac/song.codax")
    Path("album.flac").mkdir()
    codax("decode", "album.dac/song.codax", "-o", "album.flac").assert_succeeded(
        "album.flac/song.wav"
    )


def test_dac_codes_go_into_codax_files_too(released):
    write_audio("song.wav", sampling_rate=8000)
    released("encode", "song.wav", "--format", "packed").assert_succeeded("song.codax")
    encoded = EncodedAudio.load("song.codax")
    assert (encoded.model, encoded.num_codebooks) == ("dac_44khz", 3)
    released("decode", "song.codax", "-o", "back.wav").assert_succeeded()
    assert facts_of("back.wav") == (1, 8000, NUM_SAMPLES)


def test_of_another_sampling_rate_a_codax_file_keeps_the_clip_and_an_ecdc_file_the_models(
    released,
):
    num_samples = 2 * EIGHT_FRAMES - 1
    write_audio("song.wav", num_samples=num_samples, sampling_rate=48000)
    for name, expected in (
        ("song.codax", (1, 48000, num_samples)),
        ("song.ecdc", (1, 24000, EIGHT_FRAMES)),
    ):
        arguments = ("--model", "encodec_24khz", "--bandwidth", 3, "-o", name)
        released("encode", "song.wav", *arguments).assert_succeeded()
        released("decode", name, "-o", f"{name}.flac").assert_succeeded()
        assert facts_of(f"{name}.flac") == expected


def test_a_mono_model_codes_both_channels_of_a_stereo_file(codax, mono):
    write_audio("song.wav", channels=2)
    mono("encode", "song.wav", "--bandwidth", 3.2).assert_succeeded()
    assert EncodedAudio.load("song.codax").codes.shape == (2, 1, 10)
    codax("decode", "song.codax", "-o", "back.wav").assert_succeeded()
    assert facts_of("back.wav") == (2, RATE, NUM_SAMPLES)


def test_mix_makes_mono_of_stereo_for_a_mono_model(codax, mono):
    write_audio("song.wav", channels=2)
    mono("encode", "song.wav", "--mix", "--bandwidth", 3.2).assert_succeeded()
    assert EncodedAudio.load("song.codax").channels == 1
    codax("decode", "song.codax", "-o", "back.wav").assert_succeeded()
    assert facts_of("back.wav") == (1, RATE, NUM_SAMPLES)


def test_mix_makes_stereo_of_mono_for_a_stereo_model(codax, stereo):
    write_audio("song.wav", num_samples=STEREO_SAMPLES)
    stereo("encode", "song.wav", "--mix", "--bandwidth", 3.2).assert_succeeded()
    assert EncodedAudio.load("song.codax").channels == 2
    codax("decode", "song.codax", "-o", "back.wav").assert_succeeded()
    assert facts_of("back.wav") == (2, RATE, STEREO_SAMPLES)


def write_loud(path, model):
    """Codes whose scales take the decoded audio far beyond full scale."""
    codes = np.random.default_rng(0).integers(0, 16, (1, 1, 105))
    fields = {"channels_per_stream": 2, "segment_frames": (40, 40, 25), "scales": [[50.0] * 3]}
    return write_codes(path, codes, input_db=None, model=str(model), **fields)


def test_rescale_turns_loud_audio_down_and_else_it_clips(codax, encodec_stereo_folder):
    write_loud("song.codax", encodec_stereo_folder)
    codax("decode", "song.codax", "-o", "clipped.wav").assert_succeeded()
    codax("decode", "song.codax", "-o", "rescaled.wav", "--rescale").assert_succeeded()
    clipped, _ = soundfile.read("clipped.wav")
    rescaled, _ = soundfile.read("rescaled.wav")
    assert (np.abs(clipped) > 0.9999).mean() > 0.1
    assert np.abs(rescaled).max() == pytest.approx(0.99, abs=1e-4)
    codec = AudioCodec.from_pretrained(encodec_stereo_folder)
    audio = codec.decode("song.codax").samples.T
    np.testing.assert_allclose(rescaled, audio * 0.99 / np.abs(audio).max(), atol=2**-15)


def test_rescale_leaves_audio_alone_that_does_not_clip(codax, mono):
    write_audio("song.wav")
    mono("encode", "song.wav", "--bandwidth", 3.2).assert_succeeded()
    codax("decode", "song.codax", "-o", "one.wav").assert_succeeded()
    codax("decode", "song.codax", "-o", "two.wav", "--rescale").assert_succeeded()
    assert Path("one.wav").read_bytes() == Path("two.wav").read_bytes()


def test_every_file_of_a_folder_decodes_with_its_own_model(released, encodec_mono_folder):
    """`.dac` files name none: dac_44khz."""
    write_codes("in/a.dac")
    write_codes("in/b.codax", np.zeros((1, 2, 10), int), model=str(encodec_mono_folder))
    write_ecdc_of_one_frame("in/c.ecdc")
    finished = released("decode", "in", "-o", "out", "--json")
    assert finished.status == 0
    models = [one["facts"]["model"] for one in json.loads(finished.out)["files"]]
    assert models == ["dac_44khz", str(encodec_mono_folder), "encodec_24khz"]
    assert files_below("out") == ["a.wav", "b.wav", "c.wav"]
    assert [facts_of(f"out/{name}.wav") for name in "abc"] == [
        (1, RATE, NUM_SAMPLES),
        (1, RATE, NUM_SAMPLES),
        (1, 24000, NUM_SAMPLES),
    ]


def test_a_model_that_is_asked_for_takes_the_place_of_the_files(mono):
    write_codes("song.codax", np.zeros((1, 1, 10), int), input_db=None, model="no longer/there")
    mono("decode", "song.codax").assert_succeeded("song.codax -> song.wav")


def test_json_says_what_became_of_a_file(mono, codax, encodec_mono_folder):
    write_audio("song.wav", channels=2)
    finished = mono("encode", "song.wav", "--bandwidth", 3.2, "--json").assert_succeeded()
    (song,) = json.loads(finished.out)["files"]
    num_bytes = Path("song.codax").stat().st_size
    assert song["facts"] == {
        "duration_s": NUM_SAMPLES / RATE,
        "channels": 2,
        "codebooks": 1,
        "frames": 10,
        "bytes": num_bytes,
        "file_bitrate": pytest.approx(8 * num_bytes * RATE / NUM_SAMPLES),
    }
    finished = codax("decode", "song.codax", "-o", "back.wav", "--json").assert_succeeded()
    (song,) = json.loads(finished.out)["files"]
    assert song["facts"] == {
        "model": str(encodec_mono_folder),
        "duration_s": NUM_SAMPLES / RATE,
        "channels": 2,
        "sampling_rate": RATE,
    }


# --- info ----------------------------------------------------------------------------------------


def write_ecdc_of_one_frame(path):
    """A whole `.ecdc` file: 99 samples, one frame of two codebooks."""
    codes = np.array([[[1], [2]]])
    fields = {"sampling_rate": 24000, "input_db": None, "model": "encodec_24khz"}
    return write_codes(path, codes, **fields)


def info_of(codax, name):
    return json.loads(codax("info", name, "--json").assert_succeeded().out)


def test_info_describes_an_ecdc_file_without_its_model(codax):
    path = write_ecdc_of_one_frame("song.ecdc")
    assert info_of(codax, "song.ecdc") == {
        "file": "song.ecdc",
        "duration_s": NUM_SAMPLES / 24000,
        "sampling_rate": 24000,
        "channels": 1,
        "codebooks": 2,
        "frames": 1,
        "chunks": 1,
        "input_db": None,
        "bytes": path.stat().st_size,
        "file_bitrate": pytest.approx(8 * path.stat().st_size * 24000 / NUM_SAMPLES),
        "model": "encodec_24khz",
    }


def test_info_tells_segments_and_channels_of_a_stereo_file(codax):
    fields = {"channels_per_stream": 2, "segment_frames": (40, 40, 25), "scales": [[1.0] * 3]}
    codes = np.zeros((1, 2, 105), int)
    write_codes("song.codax", codes, input_db=None, model="some/model", **fields)
    facts = info_of(codax, "song.codax")
    assert (facts["channels"], facts["frames"], facts["segments"]) == (2, 105, 3)
    assert facts["model"] == "some/model"
    codax("info", "song.codax").assert_succeeded("segments", "some/model")


def test_info_describes_the_same_codes_in_all_three_formats_alike(codax):
    codes = np.array([[[1], [2]]])
    for suffix in (".dac", ".ecdc", ".codax"):
        fields = {"sampling_rate": 24000, "input_db": None, "model": "encodec_24khz"}
        write_codes(f"song{suffix}", codes, **fields)
    facts = [info_of(codax, f"song{suffix}") for suffix in (".dac", ".ecdc", ".codax")]
    for name in ("duration_s", "sampling_rate", "channels", "codebooks", "frames", "chunks"):
        assert len({each[name] for each in facts}) == 1
    assert [each.get("model") for each in facts] == [None, "encodec_24khz", "encodec_24khz"]


@pytest.mark.parametrize(
    ("name", "channels", "rate", "frame_rate", "bandwidths", "bitrate"),
    [  # README.md, "Checkpoints"
        ("encodec_24khz", 1, 24000, 75, "1.5, 3, 6, 12, 24", 24000),
        ("encodec_48khz", 2, 48000, 150, "3, 6, 12, 24", 24000),
        ("encodec_32khz", 1, 32000, 50, "2.2", 2200),
    ],
)
def test_info_describes_a_preset_without_its_weights(
    codax, name, channels, rate, frame_rate, bandwidths, bitrate
):
    facts = info_of(codax, name)
    assert (facts["model"], facts["channels"], facts["sampling_rate"]) == (name, channels, rate)
    assert (facts["frame_rate"], facts["bandwidths_kbps"]) == (frame_rate, bandwidths)
    assert facts["bitrate"] == pytest.approx(bitrate)


def test_info_describes_a_model_folder(codax, encodec_stereo_folder):
    facts = info_of(codax, encodec_stereo_folder)
    assert (facts["hop_length"], facts["channels"], facts["codebooks"]) == (10, 2, 3)
    assert facts["bandwidths_kbps"] == "3.2, 9.6"


# --- convert -------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="audiocraft's files are written by torch")


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("name", ["new/codec.bin", "new/codec.th"])
def test_an_audiocraft_file_is_written_and_converts_back_to_the_same_model(
    codax, encodec_mono_folder, name
):
    converted = codax("convert", encodec_mono_folder, "--to", "audiocraft", "-o", name)
    converted.assert_succeeded(f"{encodec_mono_folder} -> {name}")
    assert files_below("new") == [Path(name).name]
    codax("convert", name, "-o", "back").assert_succeeded()
    before, after = (
        FlaxEncodecModel.from_pretrained(path) for path in (encodec_mono_folder, "back")
    )
    assert after.config.architecture == before.config.architecture
    audio = np.random.default_rng(0).normal(0, 0.1, (1, 1, NUM_SAMPLES)).astype(np.float32)
    highest = before.config.target_bandwidths[-1]
    codes = before.encode(audio, bandwidth=highest).audio_codes
    (kept,) = after.config.target_bandwidths  # audiocraft names no others
    np.testing.assert_array_equal(after.encode(audio, bandwidth=kept).audio_codes, codes)


@pytest.mark.usefixtures("torch")
def test_an_audiocraft_file_is_replaced_only_when_asked(codax, encodec_mono_folder):
    Path("codec.bin").write_text("mine")
    arguments = ("convert", encodec_mono_folder, "--to", "audiocraft", "-o", "codec.bin")
    codax(*arguments).assert_failed("codec.bin", "--overwrite")
    assert Path("codec.bin").read_text() == "mine"
    codax(*arguments, "--overwrite").assert_succeeded()
    assert files_below() == ["codec.bin"]


@pytest.mark.usefixtures("torch")
def test_models_that_audiocraft_does_not_have_are_refused(
    codax, encodec_stereo_folder, tiny_folder
):
    for folder, reason in ((encodec_stereo_folder, "chunk_length_s=0.05"), (tiny_folder, "dac")):
        refusal = codax("convert", folder, "--to", "audiocraft", "-o", "new/codec.bin")
        refusal.assert_failed("audiocraft", reason)
        assert files_below() == []


def test_an_audiocraft_file_is_not_verified_against_torch(codax, encodec_mono_folder):
    arguments = ("--to", "audiocraft", "--verify", "-o", "codec.bin")
    codax("convert", encodec_mono_folder, *arguments).assert_failed("--verify", "audiocraft")
    assert files_below() == []
