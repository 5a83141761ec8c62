"""Recipes: what they say, build on, and refuse."""

import pytest

from codax.configuration import DAC_PRESETS, ENCODEC_PRESETS
from codax.errors import CodaxError
from codax.training.recipe import load_recipe, recipe_names
from tests.messages import one_line_error


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_of_the_package_name_a_preset_each(name):
    recipe = load_recipe(name)
    assert recipe.model.preset == name
    assert recipe.model.config().audio_channels == (2 if name == "encodec_48khz" else 1)
    assert recipe.is_adversarial


def test_there_is_a_recipe_for_every_preset():
    assert set(recipe_names()) == {*DAC_PRESETS, *ENCODEC_PRESETS}


def test_a_file_changes_what_it_says_and_keeps_the_rest_of_its_base(tmp_path):
    (tmp_path / "base.toml").write_text('base = "dac_16khz"\n[run]\nsteps = 7\n')
    (tmp_path / "mine.toml").write_text(
        'base = "base.toml"\n[losses]\nmel = 3\n[model]\nfields = {n_codebooks = 2}\n'
    )
    recipe, published = load_recipe(tmp_path / "mine.toml"), load_recipe("dac_16khz")
    assert (recipe.run.steps, recipe.losses["mel"]) == (7, 3)
    assert recipe.model.config().n_codebooks == 2
    assert recipe.losses["features"] == published.losses["features"]
    assert recipe.optimizer == published.optimizer


def test_settings_come_last():
    recipe = load_recipe(
        "dac_24khz",
        ["run.steps=5", "run.dtype=bfloat16", "model.train_encoder=false", "losses.stft = 2"],
    )
    assert (recipe.run.steps, recipe.run.dtype) == (5, "bfloat16")
    assert not recipe.model.train_encoder
    assert recipe.losses["stft"] == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["run.stepps=5"], "run.stepps: is no key, allowed: steps, "),
        (["run.steps=many"], "run.steps='many' must be a whole number"),
        (["run.steps=0"], "run.steps=0 must be a number from 1"),
        (["run.dtype=float16"], "run.dtype: 'float16' is not allowed, but float32, bfloat16"),
        (
            ["excerpts.batch_size=6", "run.accumulate=4"],
            "excerpts.batch_size=6 must be a multiple of run.accumulate=4",
        ),
        (["losses.mell=1"], "losses: 'mell' is not allowed, but waveform"),
        (["losses.mel=-1"], "losses.mel=-1"),
        (["optimizer=3"], "optimizer=3 must be a table"),
        (["optimizer.betas=[0.9]"], "optimizer.betas"),
        (["optimizer.betas=['a', 0.9]"], "optimizer.betas='a' must be a number from 0"),
        (["optimizer.decay=-1.0"], "optimizer.decay=-1.0"),
        (["optimizer.warmup_steps=-1"], "optimizer.warmup_steps=-1"),
        (["quantizer.gradient=none"], "quantizer.gradient: 'none' is not allowed, but straight_"),
        (["optimizer.discriminator_clip=-1.0"], "optimizer.discriminator_clip=-1.0"),
        (["optimizer.learning_rate=inf"], "optimizer.learning_rate=inf"),
        (["run.average_decay=1.0"], "run.average_decay=1.0"),
        (["run.seed=4294967296"], "run.seed=4294967296 must be a number from 0 to 2147483647"),
        (["losses.mel=0", "losses.features=0", "losses.adversarial=0"], "losses: one must be"),
        (["steps"], "'steps': a setting is written key=value"),
        (["quantizer.dropout=1.5"], "quantizer.dropout=1.5 must be a number from 0 to 1"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    assert message in one_line_error(CodaxError, load_recipe, "dac_16khz", settings)


def test_fields_that_the_model_has_not_are_named():
    for name in ("codebooks", "architecture", "kwargs"):
        recipe = load_recipe("dac_16khz", [f"model.fields={{{name} = 2}}"])
        with pytest.raises(CodaxError, match=f"model.fields: dac has no field '{name}'"):
            recipe.model.config()


def test_wrong_files_are_named(tmp_path):
    (tmp_path / "broken.toml").write_text("run = [")
    (tmp_path / "own.toml").write_text('base = "own.toml"')
    (tmp_path / "part.toml").write_text("balanced = true")
    for name, message in {
        "none.toml": "none.toml: no such recipe",
        "broken.toml": "broken.toml: is no TOML",
        "own.toml": "own.toml: is its own base",
        "part.toml": "model: is missing from the recipe",
    }.items():
        with pytest.raises(CodaxError, match=message):
            load_recipe(tmp_path / name)
    with pytest.raises(CodaxError, match="dac_8khz: no recipe of this name, allowed: dac_16khz"):
        load_recipe("dac_8khz")
