"""Scores and sampled effects, rendered by fluidsynth with a soundfont."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from scripts.builtin.acoustics import SAMPLING_RATE, cut, resampled, treated
from scripts.builtin.midi import DRUM_CHANNEL, Note, Score, midi_file
from scripts.builtin.programs import run
from scripts.builtin.scores import draw_score

CHANCES = {"room": 0.05, "colour": 0.1, "narrow band": 0.05, "noise": 0.1}
RENDERING_RATE = 44100

SAMPLED_EFFECTS = {"train": [122, 125, 126], "held_out": [123, 124]}
"""Programs of General MIDI, from 0: seashore, helicopter, applause; bird, telephone."""


def music_clip(
    random: np.random.Generator, part: str, num_samples: int, soundfont: Path
) -> tuple[np.ndarray, dict]:
    """-> float64 [T], and what it is: the programs that play, the drum kit, and the tempo."""
    score = draw_score(random, part, num_samples / SAMPLING_RATE)
    samples = cut(rendered(random, score, soundfont), num_samples)
    samples, treatments = treated(random, samples, CHANCES)
    programs = [number for channel, number in score.programs.items() if channel != DRUM_CHANNEL]
    facts = {
        "instruments": sorted(programs),
        "drum_kit": score.programs.get(DRUM_CHANNEL),
        "tempo": round(score.tempo),
        "treatments": treatments,
    }
    return samples, facts


def rendered(random: np.random.Generator, score: Score, soundfont: Path) -> np.ndarray:
    """-> float64 [T], with the end of the last notes; in fluidsynth's reverberation, or without."""
    reverberation = int(random.random() < 0.6)
    with TemporaryDirectory() as folder:
        midi, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
        midi.write_bytes(midi_file(score))
        options = ["-ni", "-q", "-g", "0.4", "-r", RENDERING_RATE, "-R", reverberation, "-C", "0"]
        options += ["-o", "synth.dynamic-sample-loading=1", "-O", "float", "-T", "wav"]
        run(["fluidsynth", *options, "-F", sound, soundfont, midi], written=sound)
        samples, rate = soundfile.read(sound)
    return resampled(samples, rate)


def sampled_effect(
    random: np.random.Generator, num_samples: int, programs: list[int], soundfont: Path
) -> np.ndarray:
    """One of these programs, at several pitches, over and over. float64 [T]."""
    program, duration_s = int(random.choice(programs)), num_samples / SAMPLING_RATE
    notes, start = [], 0.0
    while start < duration_s:
        length = random.uniform(0.8, 4.0)
        pitch, velocity = int(random.integers(48, 85)), int(random.integers(60, 127))
        notes.append(Note(start, length, pitch, velocity, 0))
        start += length * random.uniform(0.5, 1.2)
    score = Score(60.0, {0: program}, notes)
    return cut(rendered(random, score, soundfont), num_samples)
