"""Runs: what they leave, how they go on, and what they refuse."""

import json
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformers import FlaxAutoModel

from codax import AudioCodec
from codax.errors import CodaxError
from codax.training.discriminator_files import load_discriminator
from codax.training.steps import Training, TrainState
from codax.training.trainer import Trainer
from codax.training.weight_norm import merge_kernels

from .runs import RATE, tiny_recipe, tiny_trainer, told_lines, write_audio

STEPS = 6
KINDS = ("dac", "encodec")
FULL = pytest.mark.full

in_ci_of_encodec = pytest.mark.parametrize(
    "kind", [pytest.param("dac", marks=FULL), "encodec"], indirect=True, scope="module"
)
"""DAC's steps take twice as long to trace and compile."""


def lines_of(folder):
    """What a run told of its steps."""
    path = folder / "run" / "logs" / "losses.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def unbroken(kind, tmp_path_factory):
    """The folder of a run of `STEPS` steps."""
    folder = tmp_path_factory.mktemp(kind)
    trainer = tiny_trainer(
        kind,
        folder,
        f"run.steps={STEPS}",
        "run.validate_every=3",
        "run.samples_every=3",
        validation={"all": [write_audio(folder / "validation", seed=1)]},
    )
    assert trainer.run().stopped_by is None
    return folder


def train_lines(folder):
    return [line for line in lines_of(folder) if json.loads(line)["kind"] == "train"]


def test_losses_of_every_step_are_written_down(unbroken, kind):
    lines = [json.loads(line) for line in train_lines(unbroken)]
    assert [line["step"] for line in lines] == [*range(1, STEPS + 1)]
    mel = "mel" if kind == "dac" else "encodec_mel"
    for line in lines:
        assert {mel, "adversarial", "features", "discriminator", "commitment"} <= set(line)


def test_the_model_and_the_best_load_and_code_audio(unbroken, kind):
    times = np.arange(RATE) / RATE
    clip = (0.2 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    for name in ("model", "best"):
        folder = unbroken / "run" / name
        assert FlaxAutoModel.from_pretrained(folder).config.model_type == kind
        codec = AudioCodec.from_pretrained(folder)
        assert codec.decode(codec.encode(clip, RATE)).samples.shape == (1, RATE)


def test_the_discriminators_are_left_for_other_runs(unbroken, kind):
    recipe = tiny_recipe(kind)
    training = Training(recipe, recipe.model.config())
    fresh = merge_kernels(training._fresh_discriminator())
    path = unbroken / "run" / "discriminator.safetensors"
    trained = merge_kernels(load_discriminator(training, path))
    moved = jax.tree.map(lambda one, other: bool(np.any(one != other)), fresh, trained)
    assert all(jax.tree.leaves(moved))


def test_the_best_is_what_validation_found_best(unbroken):
    told = [line for line in told_lines(unbroken) if line["kind"] == "validation"]
    assert [line["step"] for line in told] == [3, 6]
    assert set(told[0]) >= {"mel", "stft", "waveform", "si_sdr"}
    last, best = (unbroken / "run" / name / "model.safetensors" for name in ("model", "best"))
    is_last = told[1]["mel"] < told[0]["mel"]
    assert (last.read_bytes() == best.read_bytes()) == is_last


def test_tensorboard_finds_losses_audio_and_pictures(unbroken):
    [events] = (unbroken / "run" / "logs").glob("events.out.tfevents.*")
    content = events.read_bytes()
    for tag in (b"train/features", b"validation/si_sdr", b"audio/decoded", b"spectrogram"):
        assert tag in content


@pytest.mark.full
def test_a_run_in_two_parts_equals_one_run(unbroken, kind, tmp_path):
    for steps in (STEPS - 2, STEPS):
        tiny_trainer(kind, tmp_path, f"run.steps={steps}").run()
    assert train_lines(tmp_path) == train_lines(unbroken)
    weights = [folder / "run" / "model" / "model.safetensors" for folder in (tmp_path, unbroken)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@in_ci_of_encodec
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=FULL)])
def test_a_signal_ends_a_run_after_its_step_with_a_checkpoint(unbroken, kind, tmp_path, number):
    def stop(progress):
        if progress.step == 3:
            os.kill(os.getpid(), number)

    progress = tiny_trainer(kind, tmp_path, f"run.steps={STEPS}").run(stop)
    assert (progress.step, progress.stopped_by) == (3, number)
    assert (tmp_path / "run" / "checkpoints" / "3").is_dir()
    assert not (tmp_path / "run" / "model").exists()
    tiny_trainer(kind, tmp_path, f"run.steps={STEPS}").run()
    assert train_lines(tmp_path) == train_lines(unbroken)


def killed_run(kind, folder, after):
    """Begin a run in a process of its own, which is killed after so many steps."""
    numbers = str(STEPS), str(after)
    command = [sys.executable, "-m", "tests.training.runs", kind, str(folder), *numbers]
    return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=500).returncode


@in_ci_of_encodec
@pytest.mark.parametrize("after", [4, *(pytest.param(after, marks=FULL) for after in (1, 2, 3, 5))])
def test_a_killed_run_goes_on_as_if_it_had_not_been(unbroken, kind, tmp_path, after):
    assert killed_run(kind, tmp_path, after) == -signal.SIGKILL
    assert len(train_lines(tmp_path)) < STEPS
    if after >= 4:  # a checkpoint was due after two steps, and the next waits for it
        assert (tmp_path / "run" / "checkpoints" / "2").is_dir()
    tiny_trainer(kind, tmp_path, f"run.steps={STEPS}").run()
    assert train_lines(tmp_path) == train_lines(unbroken)


@pytest.mark.full
def test_an_encoder_that_is_not_trained_keeps_its_codes(unbroken, kind, tmp_path):
    trained = unbroken / "run" / "model"
    settings = ("run.steps=2", "model.train_encoder=false")
    tiny_trainer(kind, tmp_path, *settings, from_pretrained=trained).run()
    before, after = (
        FlaxAutoModel.from_pretrained(folder) for folder in (trained, tmp_path / "run" / "model")
    )
    noise = np.random.default_rng(0).standard_normal((1, 1, 800)).astype(np.float32)
    codes = [np.asarray(model.encode(0.1 * noise).audio_codes) for model in (before, after)]
    np.testing.assert_array_equal(*codes)
    audio = [model.decode(audio_codes=codes[0]).audio_values for model in (before, after)]
    assert np.abs(audio[0] - audio[1]).max() > 0


def test_losses_that_are_not_finite_end_a_run_by_name(tmp_path, monkeypatch):
    def step(self, state, samples):
        loss = jnp.where(state.step == 2, jnp.nan, jnp.mean(samples))
        return state.replace(step=state.step + 1), {"mel": loss}

    monkeypatch.setattr(Training, "step", step)
    monkeypatch.setattr(Trainer, "_first_state", lambda _: TrainState(jnp.int32(0), *6 * [None]))
    with pytest.raises(CodaxError, match="step 3: mel is nan; the last checkpoint: 2; a lower"):
        tiny_trainer("dac", tmp_path, "run.steps=8").run()


@in_ci_of_encodec
def test_a_folder_of_another_recipe_is_refused_by_what_differs(unbroken, kind):
    with pytest.raises(CodaxError, match=r"holds a run with another losses\.features, run\.seed"):
        tiny_trainer(kind, unbroken, "losses.features=1", "run.seed=5")
    with pytest.raises(CodaxError, match=r"holds a run with another discriminator"):
        tiny_trainer(kind, unbroken, discriminator="other.safetensors")
    tiny_trainer(kind, unbroken, "run.steps=9", "run.log_every=2")  # which may change


def test_what_does_not_fit_is_refused_before_any_step(tmp_path):
    with pytest.raises(CodaxError, match=r"excerpts.duration_s=0.1 is 800 samples at 8000 Hz"):
        tiny_trainer("dac", tmp_path / "short", "excerpts.duration_s=0.1")
    with pytest.raises(CodaxError, match="shorter"):
        tiny_trainer("dac", tmp_path / "long", "excerpts.duration_s=60.0")
    four = 4 * jax.devices()
    with pytest.raises(CodaxError, match=r"=6 must be a multiple of the 4 devices$"):
        tiny_trainer("dac", tmp_path / "six", "excerpts.batch_size=6", devices=four)
    with pytest.raises(CodaxError, match=r"=4 must be a multiple of the 4 devices times run"):
        tiny_trainer("dac", tmp_path / "parts", "run.accumulate=2", devices=four)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CodaxError, match="empty"):
        Trainer(tiny_recipe("dac"), {"all": [tmp_path / "empty"]}, tmp_path / "out")
