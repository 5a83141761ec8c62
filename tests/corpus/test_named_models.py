"""Models by name: what pickles, what counts as the same, what is read when."""

import pickle
import shutil

import pytest
from datasets.fingerprint import Hasher

from codax.configuration import DacConfig
from codax.corpus import DecodeAudio, EncodeAudio, PrepareAudio
from codax.corpus.loading import NamedModel, digest_of

from .clips import noise

OPERATORS = (PrepareAudio, EncodeAudio, DecodeAudio)
PREPARING = (
    {"column": "speech"},
    {"sampling_rate": 8000},
    {"resample": False},
    {"mix_channels": True},
    {"loudness_db": None},
    {"loudness_db": -20.0},
    {"errors": "mark"},
)
CODING = ({"chunk_length_s": 5.0}, {"batch_length_s": 20.0})
OPTIONS = {
    PrepareAudio: PREPARING,
    EncodeAudio: (*PREPARING, *CODING, {"n_quantizers": 2}, {"bandwidth": 6.0}),
    DecodeAudio: (*CODING, {"column": "back"}, {"restore_loudness": False}, {"file_format": "wav"}),
}


@pytest.fixture
def folder(dac_folder, tmp_path):
    return shutil.copytree(dac_folder, tmp_path / "model")


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_option_counts(operator):
    made = [operator("descript/dac_44khz", **options) for options in ({}, *OPTIONS[operator])]
    made += [operator("descript/dac_44khz", revision=one) for one in ("main", "0123abc")]
    made += [operator("descript/dac_24khz"), operator("dac_44khz")]
    assert len({Hasher.hash(one) for one in made}) == len(made)


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_made_alike_is_alike(operator, folder):
    for model in ("dac_44khz", str(folder), folder):
        assert Hasher.hash(operator(model)) == Hasher.hash(operator(model))
    assert Hasher.hash(operator(folder)) == Hasher.hash(operator(str(folder)))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_content_of_a_folder_counts(operator, folder, name):
    before = Hasher.hash(operator(folder))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b" ")
    assert Hasher.hash(operator(folder)) != before
    (folder / name).write_bytes(content)
    assert Hasher.hash(operator(folder)) == before


def test_the_content_of_a_converted_preset_counts(folder, monkeypatch):
    monkeypatch.setattr("codax.conversion.resolve.converted_folder", lambda _: folder)
    assert NamedModel("dac_44khz_16kbps").content is None
    (folder / "preprocessor_config.json").write_text("{}")
    before = Hasher.hash(EncodeAudio("dac_44khz_16kbps"))
    assert NamedModel("dac_44khz_16kbps").content == digest_of(folder)
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert Hasher.hash(EncodeAudio("dac_44khz_16kbps")) != before


@pytest.mark.parametrize("operator", OPERATORS)
def test_the_version_of_the_results_counts_and_that_of_codax_does_not(operator, monkeypatch):
    old = operator("dac_44khz")
    before, pickled = Hasher.hash(old), pickle.dumps(old)
    monkeypatch.setattr("codax.__version__", "99")
    assert Hasher.hash(operator("dac_44khz")) == before
    monkeypatch.setattr("codax.corpus.loading.RESULTS_VERSION", 99)
    new = Hasher.hash(operator("dac_44khz"))
    assert new != before
    assert Hasher.hash(pickle.loads(pickled)) == new


def test_the_name_of_a_file_counts_but_its_card_does_not(folder):
    before = Hasher.hash(EncodeAudio(folder))
    (folder / "README.md").write_text("A card.")
    assert Hasher.hash(EncodeAudio(folder)) == before
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert Hasher.hash(EncodeAudio(folder)) != before


def test_use_does_not_count_and_models_are_not_pickled(encoder, dac_folder):
    operator = encoder()
    operator({"audio": [{"array": noise(1224), "sampling_rate": 8000}]})
    assert operator.named.codec() is operator.named.codec()
    assert Hasher.hash(operator) == Hasher.hash(EncodeAudio(dac_folder))
    assert pickle.dumps(operator) == pickle.dumps(EncodeAudio(dac_folder))
    assert len(pickle.dumps(operator)) < 1000


def test_a_pickled_one_does_what_the_original_does(dac_folder):
    operator = pickle.loads(pickle.dumps(PrepareAudio(dac_folder, loudness_db=None)))
    samples = noise(1224)
    row = operator({"audio": {"array": samples, "sampling_rate": 8000}})
    assert (row["input_values"] == samples).all()


def test_nothing_is_loaded_before_it_is_used(monkeypatch):
    monkeypatch.setattr("codax.corpus.loading.AudioCodec", None)
    for operator in OPERATORS:
        pickle.loads(pickle.dumps(operator("owner/not_there", revision="main")))


def test_a_configuration_is_read_once(folder, monkeypatch):
    named = NamedModel(folder)
    config = named.config()
    shutil.rmtree(folder)
    assert named.config() is config
    assert isinstance(config, DacConfig)


def test_the_configuration_of_a_released_model_is_known_without_a_file():
    assert NamedModel("dac_44khz").config().sampling_rate == 44100
    assert NamedModel("encodec_48khz").config().audio_channels == 2


def test_a_revision_is_asked_for(monkeypatch, named):
    asked = []

    def from_pretrained(name, **options):
        asked.append((name, options))
        return named["dac"].codec()

    monkeypatch.setattr("codax.corpus.loading.AudioCodec.from_pretrained", from_pretrained)
    NamedModel("owner/name", "0123abc").codec()
    NamedModel("owner/name").codec()
    assert asked == [("owner/name", {"revision": "0123abc"}), ("owner/name", {})]
