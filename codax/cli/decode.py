"""`codax decode`: .dac files to audio files."""

import argparse

from codax.cli import jobs
from codax.cli.models import load_codec


def add_to(commands) -> None:
    parser = commands.add_parser("decode", help="bring .dac files back to audio files")
    jobs.add_file_options(parser, made=".wav (or .flac, .ogg, .mp3)")
    parser.add_argument(
        "--format",
        choices=jobs.AUDIO_FORMATS,
        help="of the audio files (default: wav, or what the suffix of --output says)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    planned, unreadable = jobs.plan(options.inputs, options.output, (".dac",), _suffix(options))
    codec = load_codec(options.model)

    def decode(job: jobs.Job) -> dict:
        audio = codec.decode(job.source)
        audio.save(job.target)
        return {
            "duration_s": audio.duration_s,
            "channels": audio.channels,
            "sampling_rate": audio.sampling_rate,
        }

    outcomes = jobs.run(planned, decode, options.overwrite)
    return jobs.report(unreadable + outcomes, options, "decoded")


def _suffix(options: argparse.Namespace) -> str:
    if options.format:
        return f".{options.format}"
    given = options.output.suffix.lower() if options.output else ""
    return given if given in jobs.AUDIO_OUTPUTS else ".wav"
