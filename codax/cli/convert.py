"""`codax convert`: original weights to a folder that transformers loads."""

import argparse
from pathlib import Path

from codax.cli.models import explained
from codax.errors import CheckpointError


def add_to(commands) -> None:
    parser = commands.add_parser(
        "convert", help="turn original weights into a model folder (needs torch)"
    )
    parser.add_argument("source", help="preset name, original .pth file, Hub id or model folder")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a model in that folder")
    parser.add_argument(
        "--verify", action="store_true", help="run torch's model beside codax's and compare"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.conversion import convert_checkpoint, verify_against_torch

    try:
        folder = convert_checkpoint(options.source, options.output, overwrite=options.overwrite)
    except OSError as error:
        if error.filename:
            raise
        raise explained(options.source, error) from error
    print(f"{options.source} -> {folder}")
    if not options.verify:
        return 0
    is_original = options.source.endswith(".pth")
    agreement = verify_against_torch(folder, original=options.source if is_original else None)
    print(agreement)
    if agreement.holds:
        return 0
    raise CheckpointError(f"{folder}: disagrees with torch by more than rounding, see above")
