"""The programs that make the sounds: whether they are there, and running them."""

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

SOUNDFONT = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
FESTIVAL_VOICES = Path("/usr/share/festival/voices")

PACKAGES = {
    "espeak-ng": ["espeak-ng"],
    "flite": ["flite"],
    "text2wave": ["festival"],
    "fluidsynth": ["fluidsynth"],
}
"""A program -> the Debian packages that bring it."""


class ProgramError(RuntimeError):
    """A program ended with an error, or without having written what it was asked for."""


def missing_packages(voice_packages: dict[str, Sequence[str]], soundfont: Path) -> list[str]:
    """Debian packages without which not everything can be made.

    voice_packages: a Festival voice -> the packages that it needs
    """
    missing = [
        package
        for program, packages in PACKAGES.items()
        if shutil.which(program) is None
        for package in packages
    ]
    there = {path.name for path in FESTIVAL_VOICES.glob("*/*")}
    missing += [
        package
        for voice, packages in voice_packages.items()
        if voice not in there
        for package in packages
    ]
    if not soundfont.is_file():
        missing.append("fluid-soundfont-gm")
    return sorted(set(missing))


def run(command: Iterable[str | Path], written: Path, given: bytes = b"") -> None:
    """Run a program that writes a file.

    written: the file; given: what it reads

    Raises `ProgramError` with what it said, where it fails or the file is not there or empty.
    """
    words = [str(word) for word in command]
    done = subprocess.run(words, input=given, capture_output=True, check=False)
    if done.returncode or not written.is_file() or not written.stat().st_size:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["nothing"]
        raise ProgramError(f"{words[0]} ended with {done.returncode} and said: {said[-1]}")
