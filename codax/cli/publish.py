"""`codax publish`: a model on the Hub, with its card and the code that loads it."""

import argparse
import os
from pathlib import Path
from typing import Any

from codax import builtin
from codax.cli.models import load_model
from codax.errors import AudioError, CodaxError


def add_to(commands) -> None:
    parser = commands.add_parser("publish", help="put a model on the Hub, with a card")
    parser.add_argument("model", help="preset name, Hub id or folder")
    parser.add_argument("--repo-id", required=True, metavar="OWNER/NAME", help="where to put it")
    parser.add_argument(
        "--private", action="store_true", help="if the repository is made: only for its owner"
    )
    parser.add_argument("--revision", help="a branch, made if it is not there, instead of main")
    parser.add_argument(
        "--dry-run",
        type=Path,
        metavar="FOLDER",
        help="write the repository there, and upload nothing",
    )
    weights = parser.add_argument_group(
        "whose weights they are, unless MODEL is a released model by name"
    )
    weights.add_argument("--preset", help="those of this released model, unchanged")
    weights.add_argument("--license", help="the Hub's identifier of their licence, such as mit")
    weights.add_argument("--license-file", type=Path, help="its text, for the file LICENSE")
    weights.add_argument("--license-name", help="what to call it, where --license is other")
    weights.add_argument("--base-model", metavar="HUB_ID", help="what they were fine-tuned from")
    card = parser.add_argument_group("what the card tells")
    card.add_argument("--notes", type=Path, help="Markdown: how the model was trained, and so on")
    card.add_argument("--results", type=Path, help="JSON: what an evaluation measured")
    card.add_argument("--audio", type=Path, help="the clip in the picture (default: synthetic)")
    card.add_argument(
        "--no-measurements",
        action="store_true",
        help="neither speed, nor agreement with torch, nor a picture",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax import hub_cards

    hub_cards.require_repo_id(options.repo_id)
    if options.dry_run is not None:
        hub_cards.require_no_files(options.dry_run)
    origin = _origin(options)
    card: dict[str, Any] = {
        "measure": not options.no_measurements,
        "results": hub_cards.read_results(options.results) if options.results else (),
        "notes": _text("--notes", options.notes) or "",
    }
    if options.dry_run is None:
        hub_cards.require_access()
    model = load_model(options.model)
    if origin.preset is not None:
        hub_cards.require_preset(model.config, origin.preset)
    card["clip"] = _clip(options.audio, model.config)
    if options.dry_run is not None:
        print(hub_cards.write_repository(options.dry_run, model, origin, options.repo_id, **card))
        return 0
    where = {"private": options.private or None, "revision": options.revision}
    print(hub_cards.publish(model, origin, options.repo_id, **where, **card))
    return 0


def _origin(options: argparse.Namespace) -> Any:
    """Whose weights they are, by --preset, by the name of the model, or by --license."""
    from codax.hub_cards import Origin, built_in_origin, preset_of, released_origin

    preset = options.preset or (None if os.path.isdir(options.model) else preset_of(options.model))
    told = (options.license, options.license_file, options.license_name, options.base_model)
    if preset is not None:
        if any(one is not None for one in told):
            raise CodaxError(
                f"--license, --license-file, --license-name and --base-model are known of {preset}:"
                " leave them out"
            )
        return released_origin(preset)
    if options.license is None and options.model == builtin.NAME:
        return built_in_origin()
    if options.license is None:
        raise CodaxError(
            f"{options.model}: whose weights these are is not known: give --preset, or --license "
            "and, if they were fine-tuned, --base-model"
        )
    return Origin(
        options.license.lower(),
        _text("--license-file", options.license_file),
        options.license_name,
        base_model=options.base_model,
    )


def _text(option: str, path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CodaxError(f"{option} {path}: is no text in UTF-8") from error


def _clip(path: Path | None, config: Any) -> Any:
    """The beginning of an audio file as the model takes it, float32 [C, T]."""
    if path is None:
        return None
    from codax.feature_extraction import mix, read_audio, resample
    from codax.hub_cards import CLIP_S

    samples, rate = read_audio(path)
    samples = samples[:, : round(CLIP_S * rate)]
    if not samples.shape[1]:
        raise CodaxError(f"--audio {path}: holds no audio")
    try:
        samples = mix(samples, config.audio_channels)
    except AudioError as error:
        raise CodaxError(f"--audio {path}: {error}") from error
    return resample(samples, rate, config.sampling_rate)
