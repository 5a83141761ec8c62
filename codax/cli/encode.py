"""`codax encode`: audio files to .dac files."""

import argparse

from codax.cli import jobs
from codax.cli.models import load_codec

UNREAD_SUFFIXES = (".m4a", ".mp4", ".aac")  # found all the same, so that their failure is told


def add_to(commands) -> None:
    parser = commands.add_parser("encode", help="compress audio files to .dac files")
    jobs.add_file_options(parser, made=".dac")
    parser.add_argument(
        "--n-quantizers",
        type=int,
        metavar="N",
        help="codebooks to use: fewer give smaller files (default: all that the model has)",
    )
    parser.add_argument(
        "--no-loudness",
        action="store_true",
        help="encode at the given level, instead of at the -16 LUFS that DAC was trained on",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.codec.audio_codec import TRAINING_LOUDNESS_DB
    from codax.feature_extraction import AUDIO_SUFFIXES

    planned, unreadable = jobs.plan(
        options.inputs, options.output, AUDIO_SUFFIXES + UNREAD_SUFFIXES, ".dac"
    )
    codec = load_codec(options.model)
    loudness_db = None if options.no_loudness else TRAINING_LOUDNESS_DB

    def encode(job: jobs.Job) -> dict:
        encoded = codec.encode(
            job.source, n_quantizers=options.n_quantizers, loudness_db=loudness_db
        )
        encoded.save(job.target)
        num_bytes = job.target.stat().st_size
        return {
            "duration_s": encoded.duration_s,
            "channels": encoded.channels,
            "codebooks": encoded.num_codebooks,
            "frames": encoded.num_frames,
            "bytes": num_bytes,
            "file_bitrate": 8 * num_bytes / encoded.duration_s,
        }

    outcomes = jobs.run(planned, encode, options.overwrite)
    return jobs.report(unreadable + outcomes, options, "encoded")
