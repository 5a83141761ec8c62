"""`codax train`: a model from audio, by a recipe."""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub.utils import tqdm

from codax import builtin
from codax.cli.models import load_config, load_model
from codax.errors import CodaxError, one_line

HUB = "hub"
"""The folder of a run's output that is a repository for the Hub."""

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
        "--discriminator",
        type=Path,
        metavar="FILE",
        help="begin with these discriminators: discriminator.safetensors of another run, "
        "descript's discriminator/weights.pth, or a training checkpoint of audiocraft",
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
    hub = parser.add_argument_group("for the Hub: write hub/, the best model with its card")
    hub.add_argument("--repo-id", metavar="OWNER/NAME", help="where it will be")
    hub.add_argument("--license", help="the Hub's identifier of the weights' licence, such as mit")
    hosts = parser.add_argument_group(
        "several processes that train together, each with this command and the same DIR"
    )
    hosts.add_argument(
        "--distributed",
        action="store_true",
        help="join them, as Slurm, Open MPI or a TPU pod tells, or as follows",
    )
    hosts.add_argument("--coordinator-address", metavar="HOST:PORT", help="of the first process")
    hosts.add_argument("--num-processes", type=int, metavar="N", help="how many there are")
    hosts.add_argument("--process-id", type=int, metavar="I", help="which this one is, from 0")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        from codax.training import Trainer, load_recipe
    except ImportError as error:
        raise CodaxError(
            f'training needs more packages: pip install "codax[train]" ({error})'
        ) from error

    recipe = load_recipe(options.recipe, options.set)
    repository = _repository(options)
    _join(options)
    validation = None if options.validation is None else _domains(options.validation)
    if options.from_pretrained is not None:
        load_config(options.from_pretrained)  # whose errors say the way out
    trainer = Trainer(
        recipe,
        _domains(options.data),
        options.output,
        validation,
        from_pretrained=options.from_pretrained,
        discriminator=options.discriminator,
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
    if repository is not None and trainer.is_first:
        print(f"codax: for the Hub: {repository(recipe, progress)}")
    return 0


def _join(options: argparse.Namespace) -> None:
    """The other processes, before JAX looks for devices."""
    told = (options.coordinator_address, options.num_processes, options.process_id)
    if not options.distributed:
        if any(one is not None for one in told):
            raise CodaxError(
                "--coordinator-address, --num-processes and --process-id go with --distributed"
            )
        return
    import jax

    try:
        jax.distributed.initialize(*told)
    except (ValueError, RuntimeError) as error:
        raise CodaxError(
            f"--distributed: {one_line(error)}; outside of Slurm, Open MPI and TPU pods give "
            "--coordinator-address, --num-processes and --process-id"
        ) from error


def _repository(options: argparse.Namespace) -> Callable[..., Path] | None:
    """What writes `HUB` after the run, asked before it whether that can be; or None."""
    if (options.repo_id is None) != (options.license is None):
        raise CodaxError("--repo-id and --license go together")
    if options.repo_id is None:
        return None
    from codax import hub_cards
    from codax.evaluation.pictures import require_matplotlib

    folder = options.output / HUB
    base = options.from_pretrained
    if base is not None and (os.path.isdir(base) or base == builtin.NAME):
        base = None
    elif base is not None and (preset := hub_cards.preset_of(base)):
        base = hub_cards.released_origin(preset).base_model
    origin = hub_cards.Origin(options.license.lower(), base_model=base)
    hub_cards.require_repo_id(options.repo_id)
    require_matplotlib("train")

    def write(recipe: Any, progress: Any) -> Path:
        best = options.output / "best"
        model = load_model(best if best.is_dir() else options.output / "model")
        notes = _notes(options, recipe, progress)
        shutil.rmtree(folder, ignore_errors=True)  # that of the same run, when it was shorter
        return hub_cards.write_repository(folder, model, origin, options.repo_id, notes=notes)

    return write


def _notes(options: argparse.Namespace, recipe: Any, progress: Any) -> str:
    """How the model was trained, in Markdown."""
    excerpts, begun = recipe.excerpts, options.from_pretrained
    lines = [
        f"Trained by `codax train --recipe {Path(options.recipe).name}`"
        f"{f', from {Path(begun).name}' if begun else ''}: {progress.steps} steps of "
        f"{excerpts.batch_size} excerpts of {excerpts.duration_s:g} s."
    ]
    if options.set:
        lines.append("Settings: " + ", ".join(f"`{one}`" for one in options.set) + ".")
    if progress.best:
        measured = ", ".join(f"{name} {value:.4g}" for name, value in progress.best.items())
        lines.append(f"In validation, by all codebooks: {measured}.")
    return "\n\n".join(lines)


def _domains(given: list[str]) -> dict[str, list[str]]:
    """["speech=a", "speech=b", "c"] -> {"speech": ["a", "b"], "all": ["c"]}"""
    domains: dict[str, list[str]] = {}
    for one in given:
        name, equals, source = one.partition("=")
        if not equals or Path(one).exists():
            name, source = "all", one
        if not name or not source:
            raise CodaxError(f"{one!r}: a domain is written NAME=SOURCE, neither of them empty")
        domains.setdefault(name, []).append(source)
    return domains


def _show(bar: Any, progress: Any) -> None:
    told = {**(progress.losses or {}), **(progress.measures or {})}
    bar.set_postfix_str(
        ", ".join(f"{name} {told[name]:.3g}" for name in SHOWN if name in told), refresh=False
    )
    bar.update(progress.step - bar.n)
