"""Make the audio that codax's built-in model is trained on: speech, music and effects, 16 kHz mono.

    python scripts/builtin/make_audio.py OUTPUT [--hours 6] [--seed 0]

All of it is synthetic; README.md beside this file says what the programs are, which Debian packages
bring them, and under which licences. Into OUTPUT/train/speech, OUTPUT/train/music,
OUTPUT/train/effects, and the same below OUTPUT/held_out, go clips of 8 to 20 s, as 16-bit FLAC, and
a manifest.jsonl that has a line for each: file, kind, seconds, and who or what is heard.

--hours is the length of what is to be trained on: four sixths speech, a quarter music, a twelfth
effects. An eighteenth as much is held out, 20 minutes of 6 hours, made by others: other voices and
languages (speech.py), instruments and drum kits (scores.py), families of effects (effects.py).

Clip i of a folder depends on the seed and i alone. A run that was broken off goes on where it
stopped, and one with more hours adds to what is there.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[2]))

from codax.files import atomic_path
from scripts.builtin import effects
from scripts.builtin.acoustics import SAMPLING_RATE, treated
from scripts.builtin.music import SAMPLED_EFFECTS, music_clip, sampled_effect
from scripts.builtin.programs import SOUNDFONT, missing_packages
from scripts.builtin.speech import speech_clip, voice_packages

PARTS = ("train", "held_out")
KINDS = ("speech", "music", "effects")
SHARES = {
    "train": {"speech": 4 / 6, "music": 1.5 / 6, "effects": 0.5 / 6},
    "held_out": {"speech": 12 / 360, "music": 5 / 360, "effects": 3 / 360},
}
"""Of --hours."""

SHORTEST_S, LONGEST_S = 8.0, 20.0
EFFECT_CHANCES = {"room": 0.1, "noise": 0.05}
LAYERED = 0.2
"""Of the clips of effects, those in which two families sound at once."""


@dataclass(frozen=True)
class Section:
    """The clips of a kind in a part, which have a folder and a manifest of their own."""

    part: str
    kind: str
    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    def random(self, seed: int, index: int) -> np.random.Generator:
        """What clip `index` is drawn by."""
        return np.random.default_rng([seed, PARTS.index(self.part), KINDS.index(self.kind), index])


def main() -> None:
    """Parse, check that all programs are there, and make one section after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--soundfont", type=Path, default=SOUNDFONT)
    options = parser.parse_args()
    if not options.hours > 0 or options.seed < 0:
        parser.error("--hours must be above 0, and --seed 0 or more")
    missing = missing_packages(voice_packages(), options.soundfont)
    if missing:
        raise SystemExit(f"first: apt-get install --no-install-recommends {' '.join(missing)}")
    _require_seed(options.output, options.seed)
    for part in PARTS:
        for kind in KINDS:
            section = Section(part, kind, options.output / part / kind)
            make_section(section, 3600 * options.hours * SHARES[part][kind], options)


def make_section(section: Section, duration_s: float, options: argparse.Namespace) -> None:
    """Make those clips that are not there yet, until all together last as long as they should."""
    section.folder.mkdir(parents=True, exist_ok=True)
    there = {row["file"]: row for row in _rows_there(section)}
    _write_manifest(section, list(there.values()))
    total_s, index = 0.0, 0
    title = f"{section.part} {section.kind}"
    with tqdm(total=round(duration_s), desc=title, unit="s") as progress:
        while total_s < duration_s:
            name = f"{section.kind}_{index:05}.flac"
            row = there.get(name)
            if row is None:
                row = _make_clip(section, index, name, options)
                there[name] = row
            total_s, index = total_s + row["seconds"], index + 1
            progress.update(min(round(total_s), progress.total) - progress.n)
    _write_manifest(section, [there[name] for name in sorted(there)])


def effect_clip(
    random: np.random.Generator, part: str, num_samples: int, soundfont: Path
) -> tuple[np.ndarray, dict]:
    """-> float64 [T], and the families that are heard. Sampled effects count as one family."""
    families: dict[str, effects.Family] = {
        family.__name__: family for family in (effects.TRAIN, effects.HELD_OUT)[PARTS.index(part)]
    }
    programs = SAMPLED_EFFECTS[part]
    families["sampled"] = partial(sampled_effect, programs=programs, soundfont=soundfont)
    names = [str(name) for name in random.permutation(sorted(families))]
    heard = names[: 1 + (random.random() < LAYERED)]
    samples = np.zeros(num_samples)
    for name in heard:
        layer = families[name](random, num_samples)
        samples += random.uniform(0.2, 1) * layer / np.abs(layer).max()
    samples, treatments = treated(random, samples, EFFECT_CHANCES)
    return samples, {"families": heard, "treatments": treatments}


def _make_clip(section: Section, index: int, name: str, options: argparse.Namespace) -> dict:
    """Make a clip, and add it to the manifest. -> its line there"""
    random = section.random(options.seed, index)
    num_samples = round(random.uniform(SHORTEST_S, LONGEST_S) * SAMPLING_RATE)
    if section.kind == "speech":
        samples, facts = speech_clip(random, section.part, num_samples)
    else:
        make = music_clip if section.kind == "music" else effect_clip
        samples, facts = make(random, section.part, num_samples, options.soundfont)
    path = section.folder / name
    _require_sound(path, samples, num_samples)
    with atomic_path(path, path.with_name(f".{name}")) as temporary:
        soundfile.write(temporary, samples, SAMPLING_RATE, "PCM_16", format="FLAC")
    row = {"file": name, "kind": section.kind, "seconds": num_samples / SAMPLING_RATE, **facts}
    with section.manifest.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")
    return row


def _require_sound(path: Path, samples: np.ndarray, num_samples: int) -> None:
    peak = np.abs(samples).max()  # NaN, where there is any
    if samples.shape != (num_samples,) or not 1e-3 < peak < 1:
        raise RuntimeError(f"{path}: {samples.shape} samples, the highest {peak}")


def _rows_there(section: Section) -> Iterator[dict]:
    """Lines of the manifest whose files are there; not one that was broken off."""
    if not section.manifest.is_file():
        return
    for line in section.manifest.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if (section.folder / row["file"]).is_file():
            yield row


def _write_manifest(section: Section, rows: list[dict]) -> None:
    with atomic_path(section.manifest) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def _require_seed(output: Path, seed: int) -> None:
    """A folder holds the audio of one seed. Raises `SystemExit` where it has that of another."""
    note = output / "seed.json"
    output.mkdir(parents=True, exist_ok=True)
    if not note.is_file():
        note.write_text(json.dumps({"seed": seed}) + "\n", "utf-8")
    there = json.loads(note.read_text("utf-8"))["seed"]
    if there != seed:
        raise SystemExit(f"{output}: holds the audio of --seed {there}")


if __name__ == "__main__":
    main()
