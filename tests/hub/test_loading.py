"""Models from the Hub: what `from_pretrained` may be told, and which requests it makes."""

import json

import flax
import jax
import numpy as np
import pytest
from huggingface_hub import constants, try_to_load_from_cache
from transformers import AutoFeatureExtractor, FlaxAutoModel

import codax
from codax import AudioCodec, FlaxDacModel
from codax.errors import CheckpointError
from codax.modeling.torch_layout import params_to_torch
from tests.modeling.weight_folders import write_shards

from .faults import Refuse
from .models import ID, cached, files_of
from .server import TOKEN

CLASSES = {"dac": "DacFeatureExtractor", "encodec": "EncodecFeatureExtractor"}
LOADERS = {
    "model": FlaxAutoModel.from_pretrained,
    "own class": FlaxDacModel.from_pretrained,
    "extractor": AutoFeatureExtractor.from_pretrained,
    "codec": AudioCodec.from_pretrained,
}


@pytest.fixture(params=LOADERS)
def load(request):
    return LOADERS[request.param]


def rate_of(loaded):
    """Of the audio (Hz), which tells two revisions apart."""
    return getattr(loaded, "config", loaded).sampling_rate


def at_rate(files, sampling_rate):
    """The same files for another sampling rate."""
    changed = {}
    for name in ("config.json", "preprocessor_config.json"):
        fields = json.loads(files[name]) | {"sampling_rate": sampling_rate}
        changed[name] = json.dumps(fields).encode()
    return files | changed


def names_fetched(hub):
    return {each.path.rsplit("/", 1)[-1] for each in hub.requests("GET */resolve/*")}


def offline(monkeypatch):
    """As HF_HUB_OFFLINE=1 before the first import."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)


# --- what may be told ----------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["tiny_folder", "encodec_mono_folder", "encodec_stereo_folder"])
def test_a_model_of_the_hub_is_that_of_its_folder(hub, request, folder):
    folder = request.getfixturevalue(folder)
    hub.create(ID, files_of(folder))
    here, there = FlaxAutoModel.from_pretrained(folder), FlaxAutoModel.from_pretrained(ID)
    assert type(there) is type(here)
    assert there.module == here.module
    jax.tree.map(np.testing.assert_array_equal, there.params, here.params)
    extractor = AutoFeatureExtractor.from_pretrained(ID)
    assert type(extractor) is getattr(codax, CLASSES[here.config.model_type])
    assert extractor.to_dict() == AutoFeatureExtractor.from_pretrained(folder).to_dict()
    assert AudioCodec.from_pretrained(ID).model_name == ID


@pytest.mark.parametrize("revision", ["v1", "wip/x", "commit", "main"])
def test_revision_may_be_a_branch_a_tag_or_a_commit(model, files, load, revision):
    first = model.branches["main"]
    model.commit(at_rate(files, 16000), branch="wip/x", parent=first)
    model.tags["v1"] = model.branches["wip/x"]
    revision = {"commit": model.branches["wip/x"]}.get(revision, revision)
    expected = 8000 if revision == "main" else 16000
    assert rate_of(load(ID, revision=revision)) == expected
    assert rate_of(load(ID)) == 8000


def test_token_opens_a_private_repository(hub, files, load, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    hub.create(ID, files, private=True)
    with pytest.raises(OSError, match=ID):
        load(ID)
    assert rate_of(load(ID, token=TOKEN)) == 8000
    assert {each.token for each in hub.requests("GET */resolve/*")} == {TOKEN}


def test_token_of_the_environment_is_sent_unless_it_is_forbidden(hub, model, load, tmp_path):
    load(ID)
    assert {each.token for each in hub.log} == {TOKEN}
    hub.log.clear()
    load(ID, token=False, cache_dir=tmp_path / "another")
    assert {each.token for each in hub.log} == {None}


def test_cache_dir_is_where_files_go(model, load, tmp_path):
    load(ID, cache_dir=tmp_path / "here")
    assert cached(ID, tmp_path / "here")
    assert cached(ID) == []
    assert rate_of(load(ID, cache_dir=tmp_path / "here", local_files_only=True)) == 8000


def test_local_files_only_asks_the_hub_nothing(hub, model, load):
    with pytest.raises(OSError):
        load(ID, local_files_only=True)
    assert hub.log == []
    load(ID)
    hub.log.clear()
    assert rate_of(load(ID, local_files_only=True)) == 8000
    assert hub.log == []


def test_what_was_loaded_once_loads_offline(hub, model, load, monkeypatch):
    load(ID)
    hub.log.clear()
    offline(monkeypatch)
    assert rate_of(load(ID)) == 8000
    assert hub.log == []


def test_what_was_loaded_once_loads_while_the_hub_is_down(hub, model, load):
    load(ID)
    hub.fail("*", Refuse(503), times=1000)
    assert rate_of(load(ID)) == 8000


def test_force_download_fetches_everything_again(hub, model, load):
    load(ID)
    first = names_fetched(hub)
    hub.log.clear()
    load(ID, force_download=True)
    assert names_fetched(hub) == first != set()


def test_models_are_found_in_subfolders(hub, files, load):
    inside = {f"deep/inside/{name}": content for name, content in files.items()}
    hub.create(ID, inside | at_rate(files, 16000))
    assert rate_of(load(ID, subfolder="deep/inside")) == 8000
    assert rate_of(load(ID)) == 16000


def test_none_stands_for_the_defaults(model):
    loaded = FlaxDacModel.from_pretrained(
        ID, revision=None, subfolder="", token=None, cache_dir=None
    )
    assert rate_of(loaded) == 8000
    assert codax.modeling.weight_files.find_weights(ID, revision=None, subfolder=None)


def test_weights_come_from_the_commit_of_the_configuration(hub, model, files, monkeypatch):
    """Though the branch moves on between the two."""
    first = model.branches["main"]
    downloaded = codax.hub_files.hf_hub_download

    def moves_on(*arguments, **options):
        model.commit({"model.safetensors": b"newer"})
        return downloaded(*arguments, **options)

    monkeypatch.setattr("codax.hub_files.hf_hub_download", moves_on)
    FlaxAutoModel.from_pretrained(ID)
    (request,) = hub.requests("GET */model.safetensors")
    assert first in request.path


def test_configuration_of_another_repository_does_not_choose_the_commit(hub, model, files):
    hub.create("owner/other", at_rate(files, 16000))
    config = codax.DacConfig.from_pretrained("owner/other")
    assert config._commit_hash
    assert FlaxDacModel.from_pretrained(ID, config=config).config.sampling_rate == 16000


def test_second_load_asks_only_whether_the_configuration_is_new(hub, model):
    FlaxDacModel.from_pretrained(ID)
    hub.log.clear()
    FlaxDacModel.from_pretrained(ID)
    asked = [(each.method, each.path) for each in hub.log]
    assert asked == [("HEAD", f"/{ID}/resolve/main/config.json")]


def test_new_commit_is_loaded(model, files, load):
    load(ID)
    model.commit(at_rate(files, 16000))
    assert rate_of(load(ID)) == 16000


# --- several weight files ------------------------------------------------------------------------


def with_msgpack(files, tiny_folder):
    params = FlaxDacModel.from_pretrained(tiny_folder).params
    other = jax.tree.map(lambda weight: weight + 1, params)
    return files | {"flax_model.msgpack": flax.serialization.to_bytes(other)}


def test_of_two_weight_files_safetensors_is_read_and_the_other_named_once(
    hub, files, tiny_folder, caplog
):
    hub.create(ID, with_msgpack(files, tiny_folder))
    loaded = FlaxDacModel.from_pretrained(ID)
    expected = FlaxDacModel.from_pretrained(tiny_folder)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected.params)
    (record,) = caplog.records
    assert f"{ID}: using model.safetensors, not flax_model.msgpack" in record.message
    assert "flax_model.msgpack" not in cached(ID)

    hub.log.clear()
    FlaxDacModel.from_pretrained(ID)
    assert (len(caplog.records), hub.requests("GET /api/*")) == (1, [])


def test_one_weight_file_is_not_worth_a_word(model, caplog):
    FlaxDacModel.from_pretrained(ID)
    assert not caplog.records


def test_listing_that_fails_does_not_stop_a_load(hub, model):
    hub.fail("GET /api/models/*", Refuse(500), times=100)
    assert FlaxDacModel.from_pretrained(ID)
    assert hub.requests("GET /api/models/*")


def test_msgpack_is_read_where_there_are_no_safetensors(hub, model, files, tiny_folder):
    model.commit(with_msgpack(files, tiny_folder))
    model.commit(deleted=["model.safetensors"])
    loaded, expected = FlaxDacModel.from_pretrained(ID), FlaxDacModel.from_pretrained(tiny_folder)
    jax.tree.map(
        lambda one, other: np.testing.assert_array_equal(one, other + 1),
        loaded.params,
        expected.params,
    )
    hub.log.clear()
    FlaxDacModel.from_pretrained(ID)
    assert hub.requests("* */model.safetensors") == []


def test_shards_are_read(hub, tiny_folder, tmp_path):
    expected = FlaxDacModel.from_pretrained(tiny_folder)
    state = params_to_torch(expected.weight_rules(expected.config), expected.params)
    hub.create(ID, files_of(write_shards(tmp_path / "shards", expected, state)))
    loaded = FlaxDacModel.from_pretrained(ID)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected.params)


def test_repository_without_weights_is_told_with_what_is_read(hub, model):
    model.commit(deleted=["model.safetensors"])
    with pytest.raises(OSError, match=rf"{ID} holds none of model\.safetensors"):
        FlaxDacModel.from_pretrained(ID)


def test_offline_weights_that_never_came_are_told_with_the_way_out(hub, model, monkeypatch):
    codax.DacConfig.from_pretrained(ID)
    with pytest.raises(OSError, match=f"codax download {ID}"):
        FlaxDacModel.from_pretrained(ID, local_files_only=True)
    offline(monkeypatch)
    with pytest.raises(OSError, match=f"codax download {ID}"):
        FlaxDacModel.from_pretrained(ID)


def test_absent_files_are_asked_for_once(hub, model, files, tiny_folder):
    model.commit(with_msgpack(files, tiny_folder))
    model.commit(deleted=["model.safetensors"])
    FlaxDacModel.from_pretrained(ID)
    absent = try_to_load_from_cache(ID, "model.safetensors", constants.HF_HUB_CACHE)
    assert absent is not None
    assert not isinstance(absent, str)


def test_model_of_another_kind_is_refused_by_its_type(hub, files):
    fields = json.dumps({"model_type": "whisper"}).encode()
    hub.create(ID, files | {"config.json": fields})
    with pytest.raises(CheckpointError, match="whisper"):
        AudioCodec.from_pretrained(ID)
