"""push_to_hub of models and feature extractors: what it writes, and what it leaves as it was."""

import json

import jax
import numpy as np
import pytest
from huggingface_hub import ModelCard
from transformers import AutoFeatureExtractor, FlaxAutoModel

from codax.hub_cards import publish
from tests.hub.faults import Refuse
from tests.hub.server import TOKEN

from .conftest import ORIGIN

CARD = "---\nlicense: mit\ntags:\n- mine\n---\n\n# A card that somebody wrote\n"
MODEL_FILES = {"config.json", "model.safetensors"}


@pytest.fixture
def extractor(dac):
    return AutoFeatureExtractor.from_pretrained(dac.folder, trust_remote_code=False)


def other_params(model):
    return jax.tree.map(lambda weight: weight + 1, model.params)


def test_a_model_and_its_extractor_make_a_repository_that_loads(dac, extractor, hub):
    dac.model.push_to_hub(dac.repo_id)
    extractor.push_to_hub(dac.repo_id)
    repository = hub.repositories[dac.repo_id]
    assert set(repository.files()) == {*MODEL_FILES, "preprocessor_config.json"}
    changes = [set(commit.changed) for commit in repository.commits if commit.changed]
    assert changes == [MODEL_FILES, {"preprocessor_config.json"}]
    assert FlaxAutoModel.from_pretrained(dac.repo_id).config.n_codebooks == 3
    assert AutoFeatureExtractor.from_pretrained(dac.repo_id).hop_length == extractor.hop_length


def test_a_bare_name_is_one_of_the_users_own(dac, hub):
    dac.model.push_to_hub("bare")
    assert set(hub.repositories) == {"owner/bare"}


@pytest.mark.parametrize("part", ["model", "extractor"])
def test_a_card_stays_as_it_is(dac, extractor, hub, part):
    hub.create(dac.repo_id, {"README.md": CARD.encode()})
    {"model": dac.model, "extractor": extractor}[part].push_to_hub(dac.repo_id)
    assert hub.repositories[dac.repo_id].files()["README.md"] == CARD.encode()


def test_tags_are_added_to_a_card(dac, hub):
    hub.create(dac.repo_id, {"README.md": CARD.encode()})
    dac.model.push_to_hub(dac.repo_id, tags=["more", "mine"])
    card = ModelCard(hub.repositories[dac.repo_id].files()["README.md"].decode())
    assert card.data.tags == ["mine", "more"]
    assert card.text.strip() == "# A card that somebody wrote"


def test_tags_without_a_card_make_no_empty_words(dac, hub):
    dac.model.push_to_hub(dac.repo_id, tags=["audio"])
    card = ModelCard(hub.repositories[dac.repo_id].files()["README.md"].decode())
    assert (card.data.tags, card.text.strip()) == (["audio"], "")


def test_a_published_repository_keeps_its_card_and_its_code(dac, extractor, hub):
    publish(dac.model, ORIGIN, dac.repo_id, measure=False)
    repository = hub.repositories[dac.repo_id]
    before = repository.files()
    dac.model.push_to_hub(dac.repo_id, params=other_params(dac.model))
    extractor.push_to_hub(dac.repo_id)
    after = repository.files()
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"model.safetensors"}
    for name in ("config.json", "preprocessor_config.json"):
        assert json.loads(after[name])["auto_map"] == json.loads(before[name])["auto_map"]


def test_code_of_another_repository_is_not_named(dac, hub):
    reference = {"AutoConfig": "another/repo--configuration_dac.DacConfig"}
    there = json.dumps({"auto_map": reference}).encode()
    hub.create(dac.repo_id, {"config.json": there})
    dac.model.push_to_hub(dac.repo_id)
    assert "auto_map" not in json.loads(hub.repositories[dac.repo_id].files()["config.json"])


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"auto_map": 3}'])
def test_a_damaged_configuration_is_replaced(dac, hub, content):
    hub.create(dac.repo_id, {"config.json": content})
    dac.model.push_to_hub(dac.repo_id)
    assert FlaxAutoModel.from_pretrained(dac.repo_id)


def test_a_branch_is_made_and_main_stays(dac, hub):
    hub.create(dac.repo_id, {"README.md": CARD.encode()})
    dac.model.push_to_hub(dac.repo_id, revision="next", commit_message="A better one")
    repository = hub.repositories[dac.repo_id]
    assert set(repository.files()) == {"README.md"}
    assert set(repository.files("next")) == {"README.md", *MODEL_FILES}
    assert repository.commits[-1].title == "A better one"


def test_saving_and_pushing_at_once(dac, hub, tmp_path):
    folder = tmp_path / "my-dac"
    params = {**dac.model.params}
    dac.model.save_pretrained(folder, params=params, push_to_hub=True, private=True)
    repository = hub.repositories["owner/my-dac"]
    assert repository.private
    assert repository.files() == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parameters_that_were_given_are_those_pushed(dac, hub, tmp_path):
    other = other_params(dac.model)
    dac.model.save_pretrained(tmp_path, params=other, push_to_hub=True, repo_id=dac.repo_id)
    loaded = FlaxAutoModel.from_pretrained(dac.repo_id).params["encoder"]["conv1"]["kernel"]
    np.testing.assert_array_equal(loaded, other["encoder"]["conv1"]["kernel"])


def test_other_weight_formats_are_refused_before_anything_is_made(dac, hub):
    with pytest.raises(ValueError, match="safe_serialization=False"):
        dac.model.push_to_hub(dac.repo_id, safe_serialization=False)
    assert dac.repo_id not in hub.repositories


def test_weights_that_others_may_prefer_are_named(dac, extractor, hub, caplog):
    hub.create(dac.repo_id, {"flax_model.msgpack": b"older"})
    extractor.push_to_hub(dac.repo_id)
    assert not caplog.records
    dac.model.push_to_hub(dac.repo_id)
    (record,) = caplog.records
    assert f"{dac.repo_id}: holds flax_model.msgpack beside model.safe" in record.message
    assert hub.repositories[dac.repo_id].files()["flax_model.msgpack"] == b"older"


# --- the Hub stumbles, or holds something else ---------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_what_cannot_be_read_is_not_taken_for_absent(dac, hub, name, status):
    publish(dac.model, ORIGIN, dac.repo_id, measure=False)
    before = hub.repositories[dac.repo_id].files()
    hub.fail(f"* */{name}", Refuse(status), times=100)
    with pytest.raises(OSError):
        dac.model.push_to_hub(dac.repo_id, tags=["more"])
    assert hub.repositories[dac.repo_id].files() == before


def test_a_card_that_was_changed_since_it_was_cached_is_read_anew(dac, hub):
    hub.create(dac.repo_id, {"README.md": CARD.encode()})
    dac.model.push_to_hub(dac.repo_id, tags=["more"])
    newer = CARD.replace("somebody wrote", "somebody has changed")
    hub.repositories[dac.repo_id].commit({"README.md": newer.encode()}, title="change")
    dac.model.push_to_hub(dac.repo_id, tags=["again"])
    assert "somebody has changed" in hub.repositories[dac.repo_id].files()["README.md"].decode()


def test_the_code_of_another_family_is_not_kept(dac, published_as, hub):
    publish(published_as("encodec-24khz").model, ORIGIN, dac.repo_id, measure=False)
    dac.model.push_to_hub(dac.repo_id)
    fields = json.loads(hub.repositories[dac.repo_id].files()["config.json"])
    assert fields["model_type"] == "dac"
    assert "auto_map" not in fields


def test_a_single_tag_is_one_tag(dac, hub):
    hub.create(dac.repo_id, {"README.md": b"---\ntags: audio\n---\n"})
    dac.model.push_to_hub(dac.repo_id, tags=["more"])
    card = ModelCard(hub.repositories[dac.repo_id].files()["README.md"].decode())
    assert card.data.tags == ["audio", "more"]


def test_arguments_that_do_not_exist_are_refused(dac, extractor, hub, tmp_path):
    for part in (dac.model, extractor):
        with pytest.raises(TypeError, match="privat"):
            part.push_to_hub("owner/typo", privat=True)
        with pytest.raises(TypeError, match="privat"):
            part.save_pretrained(tmp_path, privat=True)
    assert hub.repositories == {}


def test_the_older_name_of_token_is_taken(dac, hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    dac.model.push_to_hub(dac.repo_id, use_auth_token=TOKEN)
    assert dac.repo_id in hub.repositories
