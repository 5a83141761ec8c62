"""`codax encode`: audio files to compressed files."""

import argparse
import os
from pathlib import Path
from typing import BinaryIO

from codax.cli import jobs, pipes
from codax.cli.models import load_codec, model_type_of
from codax.errors import CodaxError

UNREAD_SUFFIXES = (".m4a", ".mp4", ".aac")  # found all the same, so that their failure is told


def add_to(commands) -> None:
    parser = commands.add_parser("encode", help="compress audio files")
    jobs.add_file_options(parser, made=", ".join(jobs.CODED_SUFFIXES))
    jobs.add_model_option(parser, default=jobs.DEFAULT_MODEL)
    parser.add_argument(
        "--format",
        choices=jobs.CODED_FORMATS,
        help="dac: as descript-audio-codec; ecdc: as encodec; packed: .codax files, which name "
        "their model (default: what the suffix of --output says; for DAC dac, for EnCodec packed)",
    )
    quality = parser.add_mutually_exclusive_group()
    quality.add_argument(
        "--n-quantizers",
        type=int,
        metavar="N",
        help="codebooks to use: fewer give smaller files (default with DAC: all)",
    )
    quality.add_argument(
        "--bandwidth",
        type=float,
        metavar="KBPS",
        help="bitrate, one of those that an EnCodec model has (default: 6, or its highest)",
    )
    jobs.add_lm_options(
        parser, "entropy-code .ecdc files with EnCodec's language model: smaller, and slower"
    )
    parser.add_argument(
        "--mix",
        action="store_true",
        help="mix to as many channels as the model codes: to mono, or mono to stereo",
    )
    parser.add_argument(
        "--no-loudness",
        action="store_true",
        help="encode at the given level, instead of at the -16 LUFS that DAC was trained on",
    )
    parser.add_argument(
        "--descript-window",
        type=float,
        metavar="S",
        help="code in descript-audio-codec's chunks of so many seconds, for .dac files that must "
        "be those that it writes (its --win_duration)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from codax.codec import language_model
    from codax.codec.audio_codec import TRAINED
    from codax.feature_extraction import AUDIO_SUFFIXES
    from codax.formats import write_ecdc

    piped = pipes.is_used(options)
    suffix = _suffix(options)
    _check(options, suffix)
    planned = unreadable = []
    if not piped:
        planned, unreadable = jobs.plan(
            options.inputs, options.output, AUDIO_SUFFIXES + UNREAD_SUFFIXES, suffix
        )
    codec = load_codec(options.model)

    def encode(source: Path | BinaryIO, target: Path) -> dict:
        encoded = codec.encode(
            source,
            n_quantizers=options.n_quantizers,
            bandwidth=options.bandwidth,
            loudness_db=None if options.no_loudness else TRAINED,
            mix_channels=options.mix,
            descript_window_s=options.descript_window,
        )
        if options.lm:
            write_ecdc(encoded, target, language_model(options.lm_weights))
        else:
            encoded.save(target)
        num_bytes = target.stat().st_size
        return {
            "duration_s": encoded.duration_s,
            "channels": encoded.channels,
            "codebooks": encoded.num_codebooks,
            "frames": encoded.num_frames,
            "bytes": num_bytes,
            "file_bitrate": 8 * num_bytes / encoded.duration_s,
        }

    if piped:
        return jobs.run_piped(options, suffix, encode, "encoded")
    outcomes = jobs.run(planned, lambda job: encode(job.source, job.target), options.overwrite)
    return jobs.report(unreadable + outcomes, options, "encoded")


def _suffix(options: argparse.Namespace) -> str:
    if options.format:
        return jobs.CODED_FORMATS[options.format]
    if given := jobs.suffix_of_output(options, jobs.CODED_SUFFIXES):
        return given
    return jobs.CODED_FORMATS["dac" if model_type_of(options.model) == "dac" else "packed"]


def _check(options: argparse.Namespace, suffix: str) -> None:
    """Raise `CodaxError` for options that do not go with files of this suffix, or the model."""
    if options.lm and suffix != ".ecdc":
        raise CodaxError(f"--lm is for .ecdc files (--format ecdc), not {suffix}")
    if options.lm_weights and not options.lm:
        raise CodaxError("--lm-weights are used with --lm")
    if options.lm_weights and not os.path.exists(options.lm_weights):
        raise CodaxError(f"--lm-weights {options.lm_weights}: there is no such file")
    if suffix == ".dac" and model_type_of(options.model) != "dac":
        raise CodaxError(f"model {options.model}: only DAC's codes go into .dac files")
