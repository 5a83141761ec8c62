"""Fetching ahead: what comes, and that it loads without network afterwards."""

import json
import os

import pytest

from codax.configuration import DAC_PRESETS
from codax.conversion import (
    RELEASED,
    ReleasedCheckpoint,
    convert_checkpoint,
    download_model,
    resolve_model,
)
from codax.errors import CheckpointError
from codax.modeling import FlaxDacModel
from tests.hub.serving import serving
from tests.messages import one_line_error

from .loopback import FileServer


@pytest.fixture
def model_files(original, tmp_path):
    folder = convert_checkpoint(original.save(), tmp_path / "published")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def model(model_files, hub):
    """The repository `owner/model`, with more than codax reads."""
    others = {"README.md": b"", "pytorch_model.bin": b"\0", "model.onnx": b"", "run.py": b""}
    return hub.create("owner/model", model_files | others | {"flax_model.msgpack": b"\0"})


def test_repository_is_fetched_without_what_codax_does_not_read(hub, model):
    folder = download_model("owner/model")
    came = [request.path.rsplit("/", 1)[-1] for request in hub.requests("GET /owner/model/*")]
    files = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert sorted(came) == sorted(os.listdir(folder)) == files
    assert FlaxDacModel.from_pretrained(folder)


def test_shards_come_with_their_index(model):
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index = json.dumps({"weight_map": dict(zip("ab", names, strict=True))}).encode()
    shards = dict.fromkeys(names, b"\0") | {"model.safetensors.index.json": index}
    model.commit(shards, deleted=["model.safetensors"])
    assert set(shards) < set(os.listdir(download_model("owner/model")))


def test_msgpack_is_fetched_where_there_are_no_safetensors(model):
    model.commit(deleted=["model.safetensors"])
    assert "flax_model.msgpack" in os.listdir(download_model("owner/model"))


def test_fetched_repository_is_found_offline(hub, model):
    folder = download_model("owner/model")
    hub.log.clear()
    assert download_model("owner/model", local_files_only=True) == folder
    assert hub.log == []


def test_preset_is_fetched_from_its_hub_twin(hub, model_files):
    hub.create("descript/dac_44khz", model_files)
    assert "models--descript--dac_44khz" in download_model("dac_44khz")


@pytest.mark.parametrize(
    ("hub_id", "options", "reason"),
    [
        ("owner/absent", {}, "owner/absent is not on the Hub, or private"),
        ("owner/model", {"revision": "v9"}, "owner/model has no revision 'v9'"),
        (
            "owner/model",
            {"local_files_only": True},
            "run `codax download owner/model` with network",
        ),
        ("owner/model", {"endpoint": "http://127.0.0.1:9"}, "the Hub cannot be reached"),
    ],
)
@pytest.mark.usefixtures("model")
def test_what_cannot_be_fetched_is_told_in_one_line(hub_id, options, reason):
    one_line_error(CheckpointError, download_model, hub_id, match=reason, **options)


def test_repository_without_weights_is_told_with_what_is_read(model):
    model.commit(deleted=["model.safetensors", "flax_model.msgpack"])
    with pytest.raises(CheckpointError, match=r"none of model\.safetensors"):
        download_model("owner/model")


def test_folder_needs_no_fetching(tmp_path):
    assert download_model(tmp_path) == str(tmp_path)


@pytest.fixture
def released(original, monkeypatch):
    """A server of the released model `tiny`, which has no Hub twin."""
    monkeypatch.setitem(
        DAC_PRESETS,
        "tiny",
        {
            "encoder_hidden_size": original.kwargs["encoder_dim"],
            "decoder_hidden_size": original.kwargs["decoder_dim"],
            "downsampling_ratios": original.kwargs["encoder_rates"],
            "n_codebooks": original.kwargs["n_codebooks"],
            "codebook_size": original.kwargs["codebook_size"],
            "codebook_dim": original.kwargs["codebook_dim"],
            "sampling_rate": original.kwargs["sample_rate"],
        },
    )
    site = FileServer(original.save().read_bytes())
    with serving(site) as address:
        entry = ReleasedCheckpoint(f"{address}/weights.pth", "tiny.pth", None, "MIT")
        monkeypatch.setitem(RELEASED, "tiny", entry)
        yield site


def test_original_without_hub_twin_is_converted_into_the_cache_once(released, cache):
    folder = download_model("tiny")
    assert folder == str(cache / "codax" / "models" / "tiny") == resolve_model("tiny")
    assert FlaxDacModel.from_pretrained(folder)
    assert download_model("tiny", local_files_only=True) == folder
    assert released.starts == [None]


def test_force_downloads_and_converts_again(released):
    download_model("tiny")
    download_model("tiny", force_download=True)
    assert released.starts == [None, None]


def test_interrupted_conversion_is_done_again(released, cache):
    folder = cache / "codax" / "models" / "tiny"
    download_model("tiny")
    (folder / "preprocessor_config.json").unlink()
    assert download_model("tiny") == str(folder)
    assert (folder / "preprocessor_config.json").exists()


def test_original_that_is_nowhere_is_told_offline(released):
    with pytest.raises(CheckpointError, match="rules a download out"):
        download_model("tiny", local_files_only=True)
