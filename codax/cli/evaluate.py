"""`codax evaluate`: rate against quality of a model, over a folder of audio."""

import argparse
import sys
from pathlib import Path
from typing import Any

from huggingface_hub.utils import tqdm

from codax.cli.models import load_codec


def add_to(commands) -> None:
    parser = commands.add_parser(
        "evaluate", help="measure how good a model is at each of its bitrates"
    )
    parser.add_argument("model", metavar="MODEL", help="builtin, preset name, Hub id or folder")
    parser.add_argument("audio", metavar="AUDIO", help="a folder of audio, or a file")
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument(
        "--n-quantizers",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of codebooks (default: 1, 2, 4 and so on, and all)",
    )
    steps.add_argument(
        "--bandwidth",
        type=float,
        nargs="+",
        metavar="KBPS",
        help="bitrates of an EnCodec model (default: all of its own)",
    )
    parser.add_argument(
        "--opus",
        type=float,
        nargs="+",
        default=(),
        metavar="KBPS",
        help="compare with Opus at these bitrates",
    )
    parser.add_argument(
        "--visqol", choices=("audio", "speech"), help="score by ViSQOL too, in this mode"
    )
    parser.add_argument("--stoi", action="store_true", help="score speech by STOI too")
    parser.add_argument(
        "--excerpt", type=float, metavar="S", help="seconds of each clip, from its beginning"
    )
    parser.add_argument(
        "--no-loudness",
        action="store_true",
        help="encode at the given level, instead of at the -16 LUFS that DAC was trained on",
    )
    parser.add_argument(
        "--max-skipped",
        type=int,
        default=100,
        metavar="N",
        help="clips that cannot be measured before it fails (default: 100)",
    )
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="draw each metric over the bitrate, there"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.evaluation.pictures import require_matplotlib

    if options.plots is not None:
        require_matplotlib("eval")
    report = _evaluated(options)
    for name, reason in report.skipped:
        print(f"codax: {name}: {reason}", file=sys.stderr)
    print(report.to_json() if options.json else report.to_markdown(), end="")
    if options.json:
        print()
    if options.plots is not None:
        for path in report.save_plots(options.plots):
            print(f"codax: wrote {path}", file=sys.stderr)
    return 0


def _evaluated(options: argparse.Namespace) -> Any:
    """The `Report` that the options ask for."""
    from codax.codec.preparing import TRAINED
    from codax.evaluation.evaluating import evaluate

    with tqdm(unit="clip", disable=None) as bar:
        return evaluate(
            load_codec(options.model),
            options.audio,
            n_quantizers=options.n_quantizers,
            bandwidths=options.bandwidth,
            visqol=options.visqol,
            stoi=options.stoi,
            opus_kbps=options.opus,
            loudness_db=None if options.no_loudness else TRAINED,
            excerpt_s=options.excerpt,
            most_skipped=options.max_skipped,
            progress=lambda _: bar.update(),
        )
