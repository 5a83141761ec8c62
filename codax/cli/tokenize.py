"""`codax tokenize`: a corpus to shards of codes."""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub.utils import are_progress_bars_disabled, tqdm

from codax.cli import jobs
from codax.cli.models import explaining
from codax.errors import CodaxError

LINE_EVERY_S = 60.0
"""Between lines that tell how far a job is, where there is no terminal."""


def add_to(commands) -> None:
    parser = commands.add_parser(
        "tokenize", help="encode a corpus into Parquet files, for training on its codes"
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder of audio, a .jsonl manifest, Parquet files, a folder of "
        "Dataset.save_to_disk, or the id of a data set on the Hub",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        required=True,
        metavar="DIR",
        help="a folder; a run that was broken off goes on there",
    )
    jobs.add_model_option(parser, default=jobs.DEFAULT_MODEL)
    parser.add_argument("--revision", help="of the model's repository on the Hub")
    quality = parser.add_mutually_exclusive_group()
    quality.add_argument("--n-quantizers", type=int, metavar="N", help="codebooks to use")
    quality.add_argument(
        "--bandwidth", type=float, metavar="KBPS", help="bitrate of an EnCodec model"
    )
    parser.add_argument("--column", help="of the audio, in a manifest or table")
    parser.add_argument("--split", default="train", help="of a data set (default: train)")
    parser.add_argument("--config-name", help="of a data set on the Hub")
    parser.add_argument("--data-revision", help="of a data set on the Hub")
    parser.add_argument(
        "--mix", action="store_true", help="mix to as many channels as the model codes"
    )
    parser.add_argument(
        "--no-loudness",
        action="store_true",
        help="encode at the given level, instead of at the -16 LUFS that DAC was trained on",
    )
    parser.add_argument(
        "--no-resample", action="store_true", help="skip clips at another rate than the model's"
    )
    parser.add_argument(
        "--clips-per-shard",
        type=int,
        default=256,
        metavar="N",
        help="clips in one file, as much as a killed run loses (default: 256)",
    )
    parser.add_argument(
        "--max-skipped",
        type=int,
        default=100,
        metavar="N",
        help="clips of this process that cannot be encoded before it fails (default: 100)",
    )
    parser.add_argument(
        "--batch-length",
        type=float,
        metavar="S",
        help="seconds of audio in a batch (default: 80, and one clip at a time on a CPU)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="threads that read audio")
    parser.add_argument(
        "--part",
        metavar="RANK/WORLD",
        help="do only this process's part of the shards, such as 0/4 (default: as torchrun, "
        "accelerate launch, SLURM or Open MPI tell)",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    try:
        from codax.corpus.job import TokenizeJob
        from codax.corpus.shards import name_of_split
        from codax.corpus.sources import open_corpus
    except ImportError as error:
        raise CodaxError(f'tokenize needs pyarrow: pip install "codax[data]" ({error})') from error

    place = _place(options.part)
    name_of_split(options.split)  # is refused before anything is downloaded
    corpus = open_corpus(
        options.source,
        options.column,
        options.split,
        options.config_name,
        options.data_revision,
        leave_out=options.output,
    )
    job = TokenizeJob(
        corpus,
        _callable(options),
        options.output,
        shard_clips=options.clips_per_shard,
        most_skipped=options.max_skipped,
        place=place,
        split=options.split,
    )
    with tqdm(total=0, unit="clip", miniters=1, disable=None) as bar:
        progress = job.run(Report(bar).tell)
    if options.json:
        print(json.dumps({**asdict(progress), "speed": progress.speed}, indent=2))
    skipped = f", {progress.skipped} skipped (see {job.skipped_folder})"
    print(
        f"codax: {progress.clips} clips in {job.output}{skipped if progress.skipped else ''}; "
        f"{_measured(progress)} in this run",
        file=sys.stderr,
    )
    return 0


class Report:
    """How far a job is, on stderr: a bar on a terminal, a line a minute elsewhere.

    Nothing, where HF_HUB_DISABLE_PROGRESS_BARS is set. The bar counts what this run does.
    """

    def __init__(self, bar: tqdm):
        self._bar = bar
        self._prints_lines = bar.disable and not are_progress_bars_disabled()
        self._is_new = True
        self._told_at = time.monotonic()

    def tell(self, progress: Any) -> None:
        """progress: a `codax.corpus.job.Progress`"""
        if self._prints_lines:
            self._print(progress)
        elif not self._bar.disable:
            self._draw(progress)

    def _draw(self, progress: Any) -> None:
        bar = self._bar
        bar.set_postfix_str(_measured(progress), refresh=False)
        if self._is_new:
            bar.reset(progress.total)
            bar.initial = bar.n = bar.last_print_n = progress.clips
            self._is_new = False
        bar.update(progress.clips - bar.n)

    def _print(self, progress: Any) -> None:
        now = time.monotonic()
        if progress.left_s is None or now - self._told_at < LINE_EVERY_S:
            return
        self._told_at = now
        print(
            f"codax: {progress.clips} of {progress.total} clips, {_measured(progress)}, "
            f"{tqdm.format_interval(progress.left_s)} left",
            file=sys.stderr,
            flush=True,
        )


def _callable(options: argparse.Namespace) -> Any:
    """The `EncodeAudio` that the options ask for, with its model loaded."""
    from codax.codec.preparing import TRAINED
    from codax.corpus import EncodeAudio
    from codax.corpus.devices import local_rank

    rank = local_rank()
    encode = EncodeAudio(
        options.model,
        revision=options.revision,
        n_quantizers=options.n_quantizers,
        bandwidth=options.bandwidth,
        batch_length_s=options.batch_length,
        loudness_db=None if options.no_loudness else TRAINED,
        mix_channels=options.mix,
        resample=not options.no_resample,
        workers=options.workers,
    )
    with explaining(options.model):
        encode.named.codec(rank)
    return encode


def _place(part: str | None) -> Any:
    from codax.corpus.places import checked_place, this_place

    if part is None:
        return this_place()
    rank, _, world_size = part.partition("/")
    return checked_place(rank, world_size, told_by=f"--part {part}")


def _measured(progress: Any) -> str:
    return f"{progress.audio_s / 3600:.3g} h of audio, {progress.speed:.3g}x real time"
