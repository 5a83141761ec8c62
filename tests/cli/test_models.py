"""Which model a command works with, and how models are described, fetched and converted."""

import json
import shutil
from pathlib import Path

import pytest

from codax import DAC_PRESETS, DacConfig, FlaxDacModel

from .running import RATE, Finished, files_below, finish, start, write_audio, write_codes

# --- --model -------------------------------------------------------------------------------------


def hub_cache(home, repository, model_folder):
    """As huggingface_hub leaves a downloaded repository in HF_HOME."""
    folder = Path(home, "hub", f"models--{repository.replace('/', '--')}")
    shutil.copytree(model_folder, folder / "snapshots" / ("a" * 40))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)


@pytest.mark.usefixtures("codax")  # for the empty folder
def test_a_cached_hub_model_works_without_network_as_does_python_m(tiny_folder):
    hub_cache("home", "someone/tiny", tiny_folder)
    write_audio("song.wav")
    process = start("encode", "song.wav", "--model", "someone/tiny", HF_HOME="home")
    finish(process).assert_succeeded("song.wav -> song.dac")


def test_a_model_may_be_the_current_folder(codax, tiny_folder, monkeypatch, tmp_path):
    song = write_audio(tmp_path / "song.wav")
    monkeypatch.chdir(tiny_folder)
    codax("encode", song, "--model", ".", "-o", tmp_path / "out.dac").assert_succeeded()


def test_a_preset_name_stands_for_its_converted_folder(codax, tiny_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", "home")
    shutil.copytree(tiny_folder, "home/codax/models/dac_44khz_16kbps")
    write_audio("song.wav")
    codax("encode", "song.wav", "--model", "dac_44khz_16kbps").assert_succeeded()


SEVERAL_COMMANDS = """
import contextlib, io, json, sys
from codax.cli.main import main

finished = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    finished.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(finished))
"""
WITHOUT_A_MODEL = {
    "encode song.wav": ("dac_44khz", "codax download dac_44khz"),
    "decode song.dac -o out.wav": ("dac_44khz", "codax download dac_44khz"),
    "encode song.wav --model dac_44khz_16kbps": ("codax download dac_44khz_16kbps",),
    "encode song.wav --model descript/dac_24khz": ("codax download descript/dac_24khz",),
    "encode song.wav --model models/typo": ("models/typo",),
    "info descript/dac_24khz": ("codax download descript/dac_24khz",),
    "info music/song.wav": ("music/song.wav",),
    "download dac_44khz": ("descript/dac_44khz", "network"),
    "download dac_44khz_16kbps": ("weights_44khz_16kbps_1.0.0.pth", "HF_HUB_OFFLINE"),
    "convert dac_44khz -o new": ("weights_44khz_8kbps_0.0.1.pth", "HF_HUB_OFFLINE"),
    "convert someone/else -o new": ("someone/else",),
}


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """Each command of `WITHOUT_A_MODEL`, run without network or any cached model -> `Finished`."""
    folder = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_audio("song.wav")
        write_codes("song.dac")
        before = files_below()
        commands = json.dumps([command.split() for command in WITHOUT_A_MODEL])
        finished = finish(start(commands, script=SEVERAL_COMMANDS, HF_HOME="home"))
        assert finished.status == 0, finished.err
        written = [path for path in files_below() if not path.startswith("home")]
        assert written == before
    results = [Finished(*result) for result in json.loads(finished.out)]
    return dict(zip(WITHOUT_A_MODEL, results, strict=True))


@pytest.mark.parametrize("command", WITHOUT_A_MODEL)
def test_without_network_and_model_one_line_says_how_to_get_it(offline, command):
    offline[command].assert_failed(*WITHOUT_A_MODEL[command])


@pytest.mark.parametrize("name", ["nonsense", "", "no/such/folder", "/no/such", "song.wav"])
def test_what_is_no_model_is_refused_by_name(codax, name):
    write_audio("song.wav")
    codax("encode", "song.wav", "--model", name).assert_failed(repr(name), "dac_44khz")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", None, "config.json"),
        ("config.json", b"", "not a valid JSON"),
        ("config.json", b"[]", "config.json"),
        ("config.json", b'{"sampling_rate": 44100}', "model_type"),
        ("config.json", b'{"model_type": "whisper"}', "whisper"),
        ("config.json", b'"dac"', "config.json"),
        ("config.json", b'{"model_type": "dac", "sampling_rate": null}', "sampling_rate=None"),
        ("model.safetensors", None, "holds none of model.safetensors"),
        ("model.safetensors", b"", "not a whole safetensors file"),
        ("model.safetensors", b"\xff" * 1000, "not a whole safetensors file"),
    ],
)
def test_a_damaged_model_folder_is_refused_by_name(codax, tiny_folder, name, content, reason):
    write_audio("song.wav")
    shutil.copytree(tiny_folder, "model")
    Path("model", name).unlink()
    if content is not None:
        Path("model", name).write_bytes(content)
    codax("encode", "song.wav", "--model", "model").assert_failed("model", reason)
    assert not Path("song.dac").exists()


def test_a_model_that_breaks_off_is_refused_by_name(codax, tiny_folder):
    write_audio("song.wav")
    shutil.copytree(tiny_folder, "model")
    weights = Path("model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-10])
    codax("encode", "song.wav", "--model", "model").assert_failed(
        "model/model.safetensors: not a whole safetensors file"
    )


# --- info ----------------------------------------------------------------------------------------


def test_info_describes_a_file(codax):
    write_codes("song.dac", input_db=None)
    out = codax("info", "song.dac").assert_succeeded().out
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert facts["file"] == "song.dac"
    assert (facts["sampling_rate"], facts["channels"], facts["codebooks"]) == ("8000", "1", "3")
    assert (facts["frames"], facts["chunks"], facts["input_db"]) == ("11", "1", "None")


@pytest.mark.parametrize("input_db", [-20.0, None])
def test_info_describes_a_file_as_json(codax, input_db):
    path = write_codes("song.dac", input_db=input_db, chunk_frames=4)
    facts = json.loads(codax("info", "song.dac", "--json").assert_succeeded().out)
    assert facts == {
        "file": "song.dac",
        "duration_s": 99 / RATE,
        "sampling_rate": RATE,
        "channels": 1,
        "codebooks": 3,
        "frames": 11,
        "chunks": 3,
        "input_db": input_db,
        "bytes": path.stat().st_size,
        "file_bitrate": pytest.approx(8 * path.stat().st_size * RATE / 99),
    }


def test_info_describes_a_file_in_capital_letters_too(codax):
    write_codes("SONG.DAC")
    codax("info", "SONG.DAC").assert_succeeded("codebooks")


@pytest.mark.parametrize("name", DAC_PRESETS)
def test_info_describes_a_preset_without_its_weights(codax, name):
    facts = json.loads(codax("info", name, "--json").assert_succeeded().out)
    config = DacConfig.preset(name)
    assert facts["model"] == name
    assert facts["bitrate"] == config.bitrate()
    assert facts["latent_width"] == config.hidden_size


def test_info_describes_a_model_folder(codax, tiny_folder):
    facts = json.loads(codax("info", tiny_folder, "--json").assert_succeeded().out)
    assert (facts["hop_length"], facts["codebooks"], facts["frame_rate"]) == (10, 3, 800.0)


def test_info_of_a_folder_without_a_model_is_refused(codax):
    """transformers takes a missing config.json for one without fields: facts of no model at all."""
    Path("empty").mkdir()
    codax("info", "empty").assert_failed("empty", "config.json")


@pytest.mark.parametrize("name", ["missing.dac", "nonsense", "song.wav", "half.dac"])
def test_info_of_anything_else_is_refused_by_name(codax, name):
    write_audio("song.wav")
    Path("half.dac").write_bytes(b"\x93NUMPY")
    codax("info", name).assert_failed(name)


def test_info_says_of_a_file_of_another_kind_that_it_is_one(codax):
    write_audio("song.wav")
    codax("info", "song.wav").assert_failed("song.wav", ".dac")


# --- download ------------------------------------------------------------------------------------


def test_download_of_a_folder_gives_the_folder(codax, tiny_folder):
    assert codax("download", tiny_folder).assert_succeeded().out == f"{tiny_folder}\n"


def test_download_hands_on_the_revision(codax, monkeypatch):
    asked = []

    def download_model(name, **options):
        asked.append((name, options))
        return "folder"

    monkeypatch.setattr("codax.conversion.download_model", download_model)
    codax("download", "dac_24khz").assert_succeeded("folder")
    codax("download", "someone/tiny", "--revision", "v2").assert_succeeded("folder")
    assert asked == [("dac_24khz", {}), ("someone/tiny", {"revision": "v2"})]


@pytest.mark.parametrize("name", ["nonsense", ""])
def test_download_of_what_is_no_model_is_refused_by_name(codax, name):
    codax("download", name).assert_failed(repr(name), "dac_44khz")


# --- convert -------------------------------------------------------------------------------------


def test_convert_writes_a_folder_that_loads(codax, tiny_folder):
    codax("convert", tiny_folder, "-o", "new/model").assert_succeeded(f"{tiny_folder} -> new/model")
    assert files_below("new/model") == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert FlaxDacModel.from_pretrained("new/model").config.hop_length == 10


def test_convert_replaces_a_model_only_when_asked(codax, tiny_folder):
    shutil.copytree(tiny_folder, "model")
    Path("model/model.safetensors").write_bytes(b"mine")
    codax("convert", tiny_folder, "-o", "model").assert_failed("model", "--overwrite")
    assert Path("model/model.safetensors").read_bytes() == b"mine"
    codax("convert", tiny_folder, "-o", "model", "--overwrite").assert_succeeded()
    assert FlaxDacModel.from_pretrained("model").config.hop_length == 10


def test_convert_verifies_against_torch(codax, tiny_folder):
    pytest.importorskip("torch", reason="verifying needs torch")
    finished = codax("convert", tiny_folder, "-o", "model", "--verify")
    assert (finished.status, finished.err) == (0, "")
    assert "reference: transformers.DacModel" in finished.out


def test_convert_says_on_stderr_that_a_verification_failed(codax, tiny_folder, monkeypatch):
    from codax.conversion import Agreement

    def disagree(*_args, **_options):
        return Agreement(
            "torch", frames=1, codes_total=3, codes_equal=0, max_margin=1.0, max_audio_error=1.0
        )

    monkeypatch.setattr("codax.conversion.verify_against_torch", disagree)
    codax("convert", tiny_folder, "-o", "model", "--verify").assert_failed("model", "torch")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("missing.pth", "missing.pth"),
        ("text.pth", "not a file of torch.save"),
        ("empty.pth", "not a file of torch.save"),
        ("empty", "empty"),
        ("nonsense", "nonsense"),
    ],
)
def test_convert_refuses_what_holds_no_weights_and_writes_nothing(codax, source, reason):
    pytest.importorskip("torch", reason="pickled weights are read by torch")
    Path("text.pth").write_text("no weights")
    Path("empty.pth").write_text("")
    Path("empty").mkdir()
    codax("convert", source, "-o", "new").assert_failed(source, reason)
    assert not Path("new").exists()


def test_convert_into_a_file_is_refused(codax, tiny_folder):
    Path("file").write_text("mine")
    codax("convert", tiny_folder, "-o", "file").assert_failed("file")
    assert Path("file").read_text() == "mine"
