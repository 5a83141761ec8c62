"""`codax publish`: what it writes and uploads, and what it refuses before it does anything."""

import importlib.util
import json
import math
import shutil
import sys

import pytest
from huggingface_hub import ModelCard

from codax.conversion import Agreement
from tests.hub.faults import BreakOff, Refuse
from tests.tiny_encodec import noise

from .running import files_below, finish, start, write_audio

REPO_ID = "owner/tiny"
WHOSE = ("--license", "mit")


@pytest.fixture
def publish(codax, tiny_folder, hub, monkeypatch):
    """`publish("--private")`: the tiny DAC, without measurements and bars of progress."""
    monkeypatch.setitem(
        sys.modules["huggingface_hub.utils.tqdm"].progress_bar_states, "_global", False
    )

    def run(*options, whose=WHOSE):
        arguments = (tiny_folder, "--repo-id", REPO_ID, "--no-measurements", *whose, *options)
        return codax("publish", *arguments)

    return run


def test_a_model_is_published_in_one_commit_and_its_address_told(publish, hub):
    repository_url = f"{hub.url}/{REPO_ID}/commit/"
    finished = publish().assert_succeeded(repository_url)
    repository = hub.repositories[REPO_ID]
    assert finished.out.strip() == repository_url + repository.commits[-1].sha
    assert not repository.private
    assert {"README.md", "config.json", "model.safetensors", "modeling_flax_dac.py"} < set(
        repository.files()
    )


def test_a_private_repository_and_a_branch(publish, hub):
    publish("--private", "--revision", "v2").assert_succeeded()
    repository = hub.repositories[REPO_ID]
    assert repository.private
    assert "model.safetensors" in repository.files("v2")
    assert "model.safetensors" not in repository.files("main")


def test_a_dry_run_writes_the_same_and_asks_the_hub_nothing(publish, hub):
    publish("--dry-run", "out").assert_succeeded("out")
    assert hub.log == []
    publish().assert_succeeded()
    assert set(files_below("out")) == set(hub.repositories[REPO_ID].files())


def test_a_dry_run_into_a_folder_with_files_is_refused(publish):
    write_audio("out/song.wav")
    publish("--dry-run", "out").assert_failed("out", "no empty folder")
    assert files_below("out") == ["song.wav"]


def test_the_measurements_are_on_the_card(codax, tiny_folder):
    write_audio("song.wav", channels=2, num_samples=4000, sampling_rate=16000)
    arguments = ("--repo-id", REPO_ID, *WHOSE, "--dry-run", "out", "--audio", "song.wav")
    codax("publish", tiny_folder, *arguments).assert_succeeded()
    text = ModelCard.load("out/README.md").text
    assert "| transformers.DacModel | " in text
    assert "times as fast as it plays" in text
    with open("out/spectrograms.png", "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_results_notes_and_the_licence_are_taken_from_files(publish):
    result = {
        "dataset_type": "owner/clips",
        "dataset_name": "Clips",
        "metric_type": "si_sdr",
        "metric_value": 7.5,
    }
    with open("results.json", "w") as file:
        json.dump([result], file)
    for name, text in (("notes.md", "Trained on birds."), ("licence.txt", "Do as you like.")):
        with open(name, "w") as file:
            file.write(text)
    files = ("--results", "results.json", "--notes", "notes.md", "--license-file", "licence.txt")
    publish(*files, "--base-model", "descript/dac_44khz", "--dry-run", "out").assert_succeeded()
    card = ModelCard.load("out/README.md")
    assert card.data.eval_results[0].metric_value == 7.5
    assert card.data.base_model == "descript/dac_44khz"
    assert "Trained on birds." in card.text
    with open("out/LICENSE") as file:
        assert file.read() == "Do as you like."


def test_a_released_model_is_known_by_its_name(codax, tiny_folder, hf_home, monkeypatch):
    """What stands under the name of a released model must be of its architecture."""
    shutil.copytree(tiny_folder, hf_home / "codax" / "models" / "dac_44khz")
    arguments = ("--repo-id", REPO_ID, "--dry-run", "out", "--no-measurements")
    codax("publish", "dac_44khz", *arguments).assert_failed("not dac_44khz")
    fields = json.loads((tiny_folder / "config.json").read_text())
    names = ("sampling_rate", "encoder_hidden_size", "decoder_hidden_size", "n_codebooks")
    names += ("codebook_size", "codebook_dim", "downsampling_ratios")
    preset = {name: fields[name] for name in names}
    monkeypatch.setitem(sys.modules["codax"].DAC_PRESETS, "dac_44khz", preset)
    codax("publish", "dac_44khz", *arguments).assert_succeeded("out")
    card = ModelCard.load("out/README.md")
    assert (card.data.license, card.data.base_model) == ("mit", "descript/dac_44khz")
    with open("out/LICENSE") as file:
        assert "Descript" in file.read()


REFUSED = {
    "weights of unknown origin": ((), (), ("--preset", "--license")),
    "a licence of known weights": (("--preset", "dac_44khz"), WHOSE, ("dac_44khz", "--license")),
    "an unknown preset": (("--preset", "dac_8khz"), (), ("dac_8khz", "dac_44khz")),
    "a preset of another architecture": (("--preset", "dac_44khz"), (), ("not dac_44khz",)),
    "results that are none": (("--results", "bad.json"), WHOSE, ("bad.json", "metric_value")),
    "a result that is no number": (("--results", "text.json"), WHOSE, ("text.json", "'high'")),
    "a result that is NaN": (("--results", "nan.json"), WHOSE, ("nan.json", "nan", "finite")),
    "a result beyond floats": (("--results", "huge.json"), WHOSE, ("huge.json", "too large")),
    "results nested too deeply": (("--results", "deep.json"), WHOSE, ("deep.json",)),
    "a name of two lines": (("--results", "lines.json"), WHOSE, ("lines.json", "metric_name")),
    "notes that are no text": (("--notes", "binary"), WHOSE, ("--notes binary",)),
    "a licence that is no text": (("--license-file", "binary"), WHOSE, ("--license-file binary",)),
    "a licence unknown to the Hub": ((), ("--license", "mine"), ("'mine'",)),
    "a base model that is none": (("--base-model", "dac"), WHOSE, ("'dac'",)),
    "notes that are not there": (("--notes", "absent.md"), WHOSE, ("absent.md",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_are_told_before_anything_is_uploaded(publish, hub, case):
    with open("bad.json", "w") as file:
        file.write('[{"dataset_type": "x"}]')
    result = {"dataset_type": "x", "dataset_name": "x", "metric_type": "x"}
    for name, value in (("text.json", "high"), ("nan.json", math.nan), ("huge.json", 10**400)):
        with open(name, "w") as file:
            json.dump([result | {"metric_value": value}], file)
    with open("deep.json", "w") as file:
        file.write("[" * 100_000)
    with open("lines.json", "w") as file:
        json.dump([result | {"metric_value": 1, "metric_name": "a\n# b"}], file)
    with open("binary", "wb") as file:
        file.write(b"\xff\xfe")
    options, whose, words = REFUSED[case]
    publish(*options, whose=whose).assert_failed(*words)
    assert hub.repositories == {}


@pytest.mark.parametrize("repo_id", ["tiny", "owner/tiny/model", "owner/ti ny", "-/tiny"])
def test_a_repository_needs_a_name_that_the_hub_allows(codax, tiny_folder, hub, repo_id):
    arguments = (f"--repo-id={repo_id}", *WHOSE, "--no-measurements")
    codax("publish", tiny_folder, *arguments).assert_failed(repr(repo_id))
    assert hub.log == []


def test_audio_that_is_none_is_told_by_its_name(codax, tiny_folder):
    with open("song.wav", "w") as file:
        file.write("no audio")
    arguments = ("--repo-id", REPO_ID, *WHOSE, "--dry-run", "out", "--audio", "song.wav")
    codax("publish", tiny_folder, *arguments).assert_failed("song.wav")


def test_without_matplotlib_nothing_is_written(codax, tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ("--repo-id", REPO_ID, *WHOSE, "--dry-run", "out")
    codax("publish", tiny_folder, *arguments).assert_failed('pip install "codax[publish]"')
    assert files_below() == []


def test_the_built_in_model_needs_no_licence_to_be_told(codax, tmp_path):
    arguments = ("--repo-id", REPO_ID, "--no-measurements", "--dry-run", "out")
    codax("publish", "builtin", *arguments).assert_succeeded("out")
    assert "The codax authors" in (tmp_path / "out" / "LICENSE").read_text("utf-8")
    assert f'repo = "{REPO_ID}"' in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_without_torch_agreement_is_not_told(codax, tiny_folder, monkeypatch, caplog):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "codax.hub_cards.publishing.find_spec",
        lambda name: None if name == "torch" else find_spec(name),
    )
    arguments = ("--repo-id", REPO_ID, *WHOSE, "--dry-run", "out")
    codax("publish", tiny_folder, *arguments).assert_succeeded("out")
    assert "torch is not installed" in caplog.text
    text = ModelCard.load("out/README.md").text
    assert "times as fast as it plays" in text
    assert "## Agreement" not in text


def test_a_model_that_disagrees_with_torch_is_not_published(codax, tiny_folder, monkeypatch):
    worse = Agreement("transformers.DacModel", 1, 9, 0, 0.5, 0.5)
    monkeypatch.setattr("codax.hub_cards.publishing.verify_against_torch", lambda *_, **__: worse)
    arguments = ("--repo-id", REPO_ID, *WHOSE, "--dry-run", "out")
    codax("publish", tiny_folder, *arguments).assert_failed("disagrees with torch")
    assert files_below() == []


def test_a_folder_named_like_a_released_model_is_not_taken_for_it(codax, tiny_folder):
    shutil.copytree(tiny_folder, "dac_44khz")
    arguments = ("--repo-id", REPO_ID, "--no-measurements", "--dry-run", "out")
    codax("publish", "dac_44khz", *arguments).assert_failed("whose weights these are")
    codax("publish", "dac_44khz", *arguments, *WHOSE).assert_succeeded()
    assert "Descript" not in ModelCard.load("out/README.md").text


# --- the Hub says no -----------------------------------------------------------------------------


def test_without_a_token_nothing_begins(publish, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    publish().assert_failed("hf auth login")
    assert hub.repositories == {}


def test_with_a_wrong_token_nothing_begins(publish, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    publish().assert_failed("hf auth login")
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        ("POST /api/repos/create", Refuse(403)),
        ("POST /api/models/*/commit/main", Refuse(500)),
        ("POST /api/models/*/commit/main", Refuse(429)),
        ("PUT *", Refuse(403)),
    ],
)
def test_a_refusal_is_one_line_and_the_next_try_works(publish, hub, request_, fault):
    hub.fail(request_, fault, times=10)
    publish().assert_failed(REPO_ID, str(fault.status))
    assert "model.safetensors" not in hub.repositories.get(REPO_ID, _empty()).files()
    hub.reset()
    publish().assert_succeeded()


def test_an_upload_that_breaks_off_leaves_no_commit(publish, hub):
    hub.fail("PUT *", BreakOff(100), times=10)
    publish().assert_failed(REPO_ID)
    assert "config.json" not in hub.repositories[REPO_ID].files()
    hub.reset()
    publish().assert_succeeded()


def test_a_busy_hub_is_asked_again(publish, hub):
    hub.fail("PUT *", Refuse(503))
    publish().assert_succeeded()


@pytest.mark.usefixtures("codax", "hub")
def test_offline_is_told(tiny_folder):
    arguments = ("publish", tiny_folder, "--repo-id", REPO_ID, *WHOSE, "--no-measurements")
    finish(start(*arguments, HF_HUB_OFFLINE="1")).assert_failed("cannot be reached")


def test_what_an_earlier_publication_left_goes(publish, hub):
    publish("--license-file", _written("licence.txt", "Mine.")).assert_succeeded()
    hub.repositories[REPO_ID].commit({"mine.py": b"", "layers.py": b"old"}, title="by hand")
    publish().assert_succeeded()
    files = hub.repositories[REPO_ID].files()
    assert "LICENSE" not in files
    assert files["mine.py"] == b""
    assert files["layers.py"] != b"old"


def _written(name, text):
    with open(name, "w") as file:
        file.write(text)
    return name


def test_other_weights_in_the_repository_are_told(publish, hub, caplog):
    hub.create(REPO_ID, {"flax_model.msgpack": noise(8).tobytes()})
    publish().assert_succeeded()
    assert "flax_model.msgpack beside model.safetensors" in caplog.text
    assert "flax_model.msgpack" in hub.repositories[REPO_ID].files()


def _empty():
    class Empty:
        def files(self):
            return {}

    return Empty()
