"""`codax convert`: weights from the format that they are in to the one that is wanted."""

import argparse
from pathlib import Path

from codax.cli.models import explained
from codax.errors import CheckpointError, CodaxError


def add_to(commands) -> None:
    parser = commands.add_parser("convert", help="convert weights (original files need torch)")
    parser.add_argument(
        "source",
        help="preset name, Hub id, model folder, or an original file of "
        "descript-audio-codec (.pth), encodec (.th) or audiocraft (.th, .bin)",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        required=True,
        help="the folder (audiocraft: file) to write",
    )
    parser.add_argument(
        "--to",
        choices=("transformers", "audiocraft"),
        default="transformers",
        help="a folder that codax and torch's transformers load, or the EnCodec file that "
        "audiocraft's CompressionModel.get_pretrained loads (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there already")
    parser.add_argument(
        "--verify", action="store_true", help="run torch's model beside codax's and compare"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.conversion import convert_checkpoint, convert_to_audiocraft, verify_against_torch

    if options.verify and options.to == "audiocraft":
        raise CodaxError("--verify compares a model folder, which --to audiocraft does not write")
    convert = {"transformers": convert_checkpoint, "audiocraft": convert_to_audiocraft}[options.to]
    try:
        output = convert(options.source, options.output, overwrite=options.overwrite)
    except OSError as error:
        if error.filename:
            raise
        raise explained(options.source, error) from error
    print(f"{options.source} -> {output}")
    if not options.verify:
        return 0
    is_original = Path(options.source).is_file()
    agreement = verify_against_torch(output, original=options.source if is_original else None)
    print(agreement)
    if agreement.holds:
        return 0
    raise CheckpointError(f"{output}: disagrees with torch by more than rounding, see above")
