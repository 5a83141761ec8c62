"""Many files: which inputs become which outputs, and what became of each."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

from huggingface_hub.utils import tqdm

from codax.cli import pipes
from codax.errors import CodaxError, told_of

# Of `codax.codec.audio.OUTPUT_SUBTYPES`, which the parser must not take seconds to import.
AUDIO_FORMATS = ("wav", "flac", "ogg", "mp3")
AUDIO_OUTPUTS = tuple(f".{name}" for name in AUDIO_FORMATS)
CODED_FORMATS = {"dac": ".dac", "ecdc": ".ecdc", "packed": ".codax"}
CODED_SUFFIXES = tuple(CODED_FORMATS.values())
DEFAULT_MODEL = "dac_44khz"

# What a command tells of in one line; jax's own errors are RuntimeErrors.
FAILURES = (ValueError, OSError, MemoryError, RuntimeError)


@dataclass(frozen=True)
class Job:
    """One input file and the output file that it becomes."""

    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of one input: "done", "skipped" or "failed", and what to say about it."""

    input: str
    output: str | None
    status: str
    error: str | None = None
    facts: dict = field(default_factory=dict)


def add_file_options(parser: argparse.ArgumentParser, made: str) -> None:
    """The arguments that `encode` and `decode` share. `made`: the suffix of what they write."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="INPUT",
        help="a file or folder, or - for standard input",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        help=f"a folder, in which the tree below an INPUT folder is mirrored, or for one file "
        f"a file name ending in {made}, or - for standard output; by default outputs lie beside "
        "their inputs",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace outputs that exist (else skipped)",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON on stdout")


def add_model_option(
    parser: argparse.ArgumentParser, default: str | None, told: str | None = None
) -> None:
    """--model. `told`: what the help says of the default."""
    parser.add_argument(
        "--model",
        default=default,
        help=f"builtin, preset name, Hub id or folder of the model (default: {told or default})",
    )


def add_lm_options(parser: argparse.ArgumentParser, told: str | None = None) -> None:
    """--lm-weights, and --lm where there is something to be told of it."""
    if told is not None:
        parser.add_argument("--lm", action="store_true", help=told)
    parser.add_argument(
        "--lm-weights",
        type=Path,
        metavar="PATH",
        help="the language model of entropy-coded .ecdc files: an original .th file or a converted "
        "one (default: the released one)",
    )


def suffix_of_output(options: argparse.Namespace, allowed: Iterable[str]) -> str | None:
    """The suffix of --output, if it names a file and the suffix is one of `allowed`."""
    if options.output is None or options.output.is_dir():
        return None
    suffix = options.output.suffix.lower()
    return suffix if suffix in allowed else None


def plan(
    inputs: Iterable[Path], output: Path | None, input_suffixes: tuple[str, ...], suffix: str
) -> tuple[list[Job], list[Outcome]]:
    """Decide every output before anything is done -> jobs, and the folders that cannot be read.

    Raises `CodaxError` where an input does not exist or holds nothing to do, and where two inputs
    would become the same output.
    """
    inputs = list(inputs)
    if output is not None and not output.is_dir():
        _check_suffix(output, suffix)
    jobs, unreadable = [], []
    for given in inputs:
        if given.is_dir():
            found = list(_files_below(given, input_suffixes, unreadable))
            if not found and not unreadable:
                raise CodaxError(
                    f"{given}: no files with {', '.join(input_suffixes)} in this folder"
                )
            jobs += [Job(path, _mirrored(path, given, output, suffix)) for path in found]
        elif not given.exists():
            raise CodaxError(f"{given}: no such file or folder")
        elif output is not None and output.suffix.lower() == suffix and not output.is_dir():
            if len(inputs) > 1:
                raise CodaxError(f"{output}: names one file, but there are {len(inputs)} inputs")
            jobs.append(Job(given, output))
        else:
            jobs.append(Job(given, _mirrored(given, given.parent, output, suffix)))
    return _distinct(jobs), unreadable


def run(jobs: list[Job], work: Callable[[Job], dict], overwrite: bool) -> list[Outcome]:
    """Do the jobs one after the other; a file that fails is noted and the others are done."""
    progress = tqdm(jobs, unit="file", disable=True if len(jobs) == 1 else None)
    return [_run_one(job, work, overwrite) for job in progress]


def _check_suffix(output: Path, suffix: str) -> None:
    other = output.suffix.lower()
    if other != suffix and other in (*CODED_SUFFIXES, *AUDIO_OUTPUTS):
        raise CodaxError(f"{output}: ends in {other}, but {suffix} files are written")


def run_piped(
    options: argparse.Namespace,
    suffix: str,
    work: Callable[[Path | BinaryIO, Path], dict],
    verb: str,
) -> int:
    """Do the one job of `codax encode -` and the like; returns the exit status."""
    writes_output = pipes.writes_output(options)
    if not writes_output:
        _check_suffix(options.output, suffix)

    def work_on(_: Job) -> dict:
        with pipes.opened_input(options) as given, pipes.output_path(options, suffix) as path:
            return work(given, path)

    job = Job(Path(pipes.name_of(options)), options.output or pipes.STANDARD)
    outcome = _run_one(job, work_on, options.overwrite or writes_output)
    if writes_output and outcome.status == "done":
        return 0
    return report([outcome], options, verb)


def report(outcomes: list[Outcome], options: argparse.Namespace, verb: str) -> int:
    """Print what became of the files; returns the exit status."""
    count = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("done", "skipped", "failed")
    }
    if options.json:
        summary = {"model": options.model, **count, "files": [asdict(one) for one in outcomes]}
        print(json.dumps(summary, indent=2))
    for outcome in outcomes:
        if outcome.status == "failed":
            print(f"codax: {outcome.error}", file=sys.stderr)
        elif len(outcomes) == 1 and outcome.status == "done" and not options.json:
            print(f"{outcome.input} -> {outcome.output}")
    if count["skipped"] or len(outcomes) > 1:
        skipped = f", {count['skipped']} skipped (output exists; --overwrite replaces it)"
        print(
            f"codax: {count['done']} {verb}{skipped if count['skipped'] else ''}, "
            f"{count['failed']} failed",
            file=sys.stderr,
        )
    return 1 if count["failed"] else 0


def _run_one(job: Job, work: Callable[[Job], dict], overwrite: bool) -> Outcome:
    source, target = str(job.source), str(job.target)
    try:
        if job.target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", target)
        if job.target.exists() and not overwrite:
            return Outcome(source, target, "skipped")
        job.target.parent.mkdir(parents=True, exist_ok=True)
        return Outcome(source, target, "done", facts=work(job))
    except FAILURES as error:
        return Outcome(source, None, "failed", told_of(source, error))


def _files_below(
    folder: Path, suffixes: tuple[str, ...], unreadable: list[Outcome]
) -> Iterator[Path]:
    def note(error: OSError) -> None:
        reason = f"{error.filename}: {error.strerror}"
        unreadable.append(Outcome(str(error.filename), None, "failed", reason))

    for parent, folders, names in os.walk(folder, onerror=note):
        folders.sort()
        for name in sorted(names):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                yield Path(parent, name)


def _mirrored(path: Path, root: Path, output: Path | None, suffix: str) -> Path:
    """Where below `output` the file stands that stood below `root`, with its new suffix."""
    target = path if output is None else output / path.relative_to(root)
    return target.with_suffix(suffix)


def _distinct(jobs: list[Job]) -> list[Job]:
    distinct = {}
    for job in jobs:
        target, source = os.path.abspath(job.target), os.path.abspath(job.source)
        if target == source:
            raise CodaxError(f"{job.source}: would be replaced by its own output; give --output")
        other = distinct.setdefault(target, job)
        if os.path.abspath(other.source) != source:
            raise CodaxError(
                f"{other.source} and {job.source} would both become {job.target}; "
                "rename one of them"
            )
    return list(distinct.values())
