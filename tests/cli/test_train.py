"""`codax train`: what it hands on, what it prints, what it leaves, and what it refuses."""

import json
import signal

import pytest
from huggingface_hub import ModelCard
from transformers import FlaxAutoModel

from codax.training import Trainer
from codax.training.trainer import Progress
from tests.training.runs import SETTINGS, SMALL, write_audio

ALWAYS = ("--recipe", "encodec_24khz", "--data", "audio", "--output", "run")
SET = ("--set", *SMALL, *SETTINGS["encodec"], "run.steps=2")


@pytest.fixture
def train(codax, tmp_path):
    """`train("--workers", 1)`: a tiny EnCodec, on tiny clips."""
    write_audio(tmp_path / "audio")
    return lambda *options: codax("train", *ALWAYS, *SET, *options)


@pytest.fixture
def ended(monkeypatch):
    """Runs end at once, as `ended.progress` says; `ended.trainers` ran."""

    class Ended:
        trainers = ()
        progress = Progress(steps=2, step=2)

    def run(trainer, tell):
        Ended.trainers = (*Ended.trainers, trainer)
        tell(Ended.progress)
        return Ended.progress

    monkeypatch.setattr(Trainer, "run", run)
    return Ended


def test_the_model_is_told_and_a_run_that_was_stopped_how_it_goes_on(train, ended):
    train().assert_succeeded("codax: 2 steps; the model is in run/model")
    ended.progress = Progress(steps=2, step=1, stopped_by=signal.SIGTERM)
    finished = train()
    assert finished.status == 128 + signal.SIGTERM
    assert "SIGTERM: step 1 of 2 is kept in run; the same command goes on" in finished.err


def test_domains_are_named_and_files_whose_name_has_an_equals_sign_are_files(
    train, ended, tmp_path
):
    write_audio(tmp_path / "more")
    write_audio(tmp_path / "a=b")
    train("--data", "one=audio", "two=more", "a=b").assert_succeeded()
    [trainer] = ended.trainers
    assert sorted(trainer._batches.stream.digest) == ["all", "one", "two"]


def test_what_cannot_be_trained_is_refused_in_one_line_and_leaves_nothing(train, ended, tmp_path):
    (tmp_path / "empty").mkdir()
    for options, words in (
        (("--data", "empty"), ("empty",)),
        (("--data", "nowhere"), ("nowhere",)),
        (("--data", "speech="), ("'speech=': a domain is written NAME=SOURCE",)),
        (("--discriminator", "none.pth"), ("none.pth",)),
        (("--set", "discriminator.fields={foo=1}"), ("discriminator.fields=", "foo")),
        (("--set", "discriminator.fields={window_lengths=[2048]}"),
         ("discriminator.fields=", "1200 samples", "2048")),
        (("--set", "excerpts.validation_s=0.1"), ("excerpts.validation_s=0.1", "from 0.1281 s")),
        (("--set", "losses={waveform=0, encodec_mel=0, adversarial=0, features=0}"),
         ("losses: one must be above 0 of waveform, mel",)),
        (("--recipe", "mp3"), ("mp3: no recipe of this name", "dac_44khz")),
        (("--set", "run.stepz=5"), ("run.stepz: is no key",)),
        (("--from-pretrained", "nothing"), ("'nothing' is neither a folder",)),
        (("--discriminator", "none.pth", "--set", "losses.adversarial=0", "losses.features=0"),
         ("none.pth: the recipe has neither",)),
        (("--num-processes", 2), ("go with --distributed",)),
        (("--repo-id", "owner/name"), ("--repo-id and --license go together",)),
        (("--repo-id", "name", "--license", "mit"), ("must be 'owner/name'",)),
        (("--repo-id", "owner/name", "--license", "none"), ("licence 'none'",)),
    ):  # fmt: skip
        train(*options).assert_failed(*words)
        assert not (tmp_path / "run").exists()
    assert ended.trainers == ()


@pytest.mark.full
def test_a_run_leaves_a_repository_with_a_card_and_goes_on_from_there(train, codax, tmp_path):
    pytest.importorskip("matplotlib")
    hub = ("--repo-id", "owner/tiny", "--license", "cc-by-4.0")
    validation = ("--validation", "audio", "--set", "run.validate_every=1")
    train(*hub, *validation).assert_succeeded("the model is in run/model", "run/hub")
    card = ModelCard.load(tmp_path / "run" / "hub" / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert "`codax train --recipe encodec_24khz`: 2 steps of 4 excerpts of 0.15 s" in card.text
    assert "si_sdr" in card.text
    assert FlaxAutoModel.from_pretrained(tmp_path / "run" / "hub").config.model_type == "encodec"
    train(*hub, *validation, "--set", "run.steps=3").assert_succeeded("run/hub")
    assert ": 3 steps of" in (tmp_path / "run" / "hub" / "README.md").read_text()

    from_there = (
        "--from-pretrained",
        "run/hub",
        "--discriminator",
        "run/discriminator.safetensors",
    )
    train(*from_there, "--output", "tuned").assert_succeeded("tuned/model")
    told = json.loads((tmp_path / "tuned" / "recipe.json").read_text())
    assert told["from_pretrained"] == "run/hub"
    assert told["discriminator"] == "run/discriminator.safetensors"
