"""`codax decode`: compressed files to audio files."""

import argparse
from functools import cache
from pathlib import Path
from typing import BinaryIO

from codax.cli import jobs, pipes
from codax.cli.models import load_codec


def add_to(commands) -> None:
    parser = commands.add_parser("decode", help="bring compressed files back to audio files")
    jobs.add_file_options(parser, made=".wav (or .flac, .ogg, .mp3)")
    jobs.add_model_option(
        parser,
        default=None,
        told=f"what the file names; {jobs.DEFAULT_MODEL} for .dac files, which name none",
    )
    parser.add_argument(
        "--format",
        choices=jobs.AUDIO_FORMATS,
        help="of the audio files (default: wav, or what the suffix of --output says)",
    )
    jobs.add_lm_options(parser)
    parser.add_argument(
        "--rescale",
        action="store_true",
        help="turn audio down that would clip, instead of clipping it",
    )
    parser.add_argument(
        "--no-loudness",
        action="store_true",
        help="leave audio at the level that it was coded at, instead of the original's; spares the "
        "rest of a file with --start and --end, since loudness is measured over all of it",
    )
    parser.add_argument(
        "--start", type=float, metavar="S", help="second from which to decode (default: 0)"
    )
    parser.add_argument(
        "--end", type=float, metavar="S", help="second up to which to decode (default: the end)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.codec import read_compressed

    suffix, piped = _suffix(options), pipes.is_used(options)
    planned = unreadable = []
    if not piped:
        planned, unreadable = jobs.plan(options.inputs, options.output, jobs.CODED_SUFFIXES, suffix)
    codec_of = cache(load_codec)
    if options.model:
        codec_of(options.model)  # one that is not to be had is one error, not one for each file

    def decode(source: Path | BinaryIO, target: Path) -> dict:
        clip = read_compressed(source, options.lm_weights)
        model = options.model or clip.model or jobs.DEFAULT_MODEL
        audio = codec_of(model).decode_lazily(
            clip,
            options.start,
            options.end,
            restore_loudness=not options.no_loudness,
            rescale=options.rescale,
        )
        if target == pipes.STANDARD:
            pipes.play(audio)
        else:
            audio.save(target)
        return {
            "model": model,
            "duration_s": audio.duration_s,
            "channels": audio.channels,
            "sampling_rate": audio.sampling_rate,
        }

    if piped:
        return jobs.run_piped(options, suffix, decode, "decoded")
    outcomes = jobs.run(planned, lambda job: decode(job.source, job.target), options.overwrite)
    return jobs.report(unreadable + outcomes, options, "decoded")


def _suffix(options: argparse.Namespace) -> str:
    if options.format:
        return f".{options.format}"
    return jobs.suffix_of_output(options, jobs.AUDIO_OUTPUTS) or ".wav"
