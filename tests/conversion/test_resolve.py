"""What users call a model, and what is loaded for it."""

import pytest

from codax.conversion import RELEASED, resolve_model
from codax.conversion.checkpoints import converted_folder
from codax.errors import CheckpointError
from tests.messages import one_line_error


def put_model(folder, names=("config.json", "model.safetensors", "preprocessor_config.json")):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


def test_folder_is_itself_even_under_a_presets_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dac_44khz").mkdir()
    assert resolve_model(tmp_path) == str(tmp_path)
    assert resolve_model("dac_44khz") == "dac_44khz"


@pytest.mark.parametrize("name", ["dac_44khz", "dac_24khz", "dac_16khz"])
def test_released_model_is_its_hub_twin(name):
    assert resolve_model(name) == f"descript/{name}"


@pytest.mark.parametrize("name", RELEASED)
def test_converted_model_in_the_cache_comes_first(name, cache):
    put_model(cache / "codax" / "models" / name)
    assert resolve_model(name) == str(cache / "codax" / "models" / name)


def test_half_converted_model_does_not_count():
    put_model(converted_folder("dac_44khz"), ["model.safetensors", "config.json"])
    assert resolve_model("dac_44khz") == "descript/dac_44khz"


def test_model_without_hub_twin_is_told_with_the_command_that_fetches_it():
    message = one_line_error(CheckpointError, resolve_model, "dac_44khz_16kbps")
    assert "run `codax download dac_44khz_16kbps`" in message


def test_hub_id_is_itself():
    assert resolve_model("someone/some-model.v2") == "someone/some-model.v2"


@pytest.mark.parametrize("name", ["dac_99khz", "/absent", "./absent/model", "a/b/c", "", "a//b"])
def test_anything_else_is_told_with_what_is_allowed(name):
    with pytest.raises(CheckpointError, match=r"Hub id 'owner/name'.*dac_44khz, dac_44khz_16kbps"):
        resolve_model(name)
