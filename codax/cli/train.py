"""`codax train`: a model from audio, by a recipe."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from huggingface_hub.utils import tqdm

from codax.cli.models import explaining
from codax.errors import CodaxError

SHOWN = ("mel", "encodec_mel", "si_sdr")
"""Of losses and measures, what the progress bar tells."""


def add_to(commands) -> None:
    parser = commands.add_parser(
        "train", help="train a model, or train one on, and write a folder that codax loads"
    )
    parser.add_argument(
        "--recipe",
        required=True,
        metavar="NAME",
        help="dac_44khz, dac_24khz, dac_16khz, dac_44khz_16kbps, encodec_24khz, encodec_32khz, "
        "encodec_48khz, or a .toml file that names one as its base",
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="[DOMAIN=]SOURCE",
        help="audio to train on: a folder, a .jsonl manifest, Parquet, a data set; domains take "
        "turns, so that each comes equally often",
    )
    parser.add_argument(
        "--validation",
        nargs="+",
        metavar="[DOMAIN=]SOURCE",
        help="audio to measure by, and to select the best model by (default: none)",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder; a run that was broken off goes on there",
    )
    parser.add_argument(
        "--from-pretrained",
        metavar="MODEL",
        help="begin with this model's weights: a preset's name, Hub id or folder",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change the recipe, as run.steps=1000 or model.train_encoder=false",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read audio")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        from codax.training import Trainer, load_recipe
    except ImportError as error:
        raise CodaxError(
            f'training needs more packages: pip install "codax[train]" ({error})'
        ) from error

    recipe = load_recipe(options.recipe, options.set)
    validation = None if options.validation is None else _domains(options.validation)
    with explaining(options.from_pretrained or options.recipe):
        trainer = Trainer(
            recipe,
            _domains(options.data),
            options.output,
            validation,
            from_pretrained=options.from_pretrained,
            workers=options.workers,
        )
    with tqdm(total=recipe.run.steps, unit="step", disable=None) as bar:
        progress = trainer.run(lambda progress: _show(bar, progress))
    if progress.stopped_by is not None:
        name = signal.Signals(progress.stopped_by).name
        print(
            f"codax: {name}: step {progress.step} of {progress.steps} is kept in {options.output}; "
            "the same command goes on",
            file=sys.stderr,
        )
        return 128 + progress.stopped_by
    print(f"codax: {progress.steps} steps; the model is in {options.output / 'model'}")
    return 0


def _domains(given: list[str]) -> dict[str, list[str]]:
    """["speech=a", "speech=b", "c"] -> {"speech": ["a", "b"], "all": ["c"]}"""
    domains: dict[str, list[str]] = {}
    for one in given:
        name, equals, source = one.partition("=")
        if not equals or Path(one).exists():
            name, source = "all", one
        domains.setdefault(name, []).append(source)
    return domains


def _show(bar: Any, progress: Any) -> None:
    told = {**(progress.losses or {}), **(progress.measures or {})}
    bar.set_postfix_str(
        ", ".join(f"{name} {told[name]:.3g}" for name in SHOWN if name in told), refresh=False
    )
    bar.update(progress.step - bar.n)
