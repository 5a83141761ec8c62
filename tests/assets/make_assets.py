"""Make speech.flac and music.flac again: `python tests/assets/make_assets.py`.

speech.flac needs the `espeak-ng` program (Debian package espeak-ng, version 1.51 made the committed
file); music.flac is computed with numpy alone. Both are 44.1 kHz, 16 bit.
"""

import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr

SAMPLING_RATE = 44100
HERE = Path(__file__).resolve().parent

SENTENCE = "The quick brown fox jumps over the lazy dog, and nobody heard a sound."
ESPEAK = ["espeak-ng", "-v", "en-us", "-s", "165", "-p", "45", "--stdout", SENTENCE]
SPEECH_PEAK = 0.6

BEAT_S = 0.5
NUM_BEATS = 8
MUSIC_PEAK = 0.8


def make_speech():
    """Synthesised sentence, float64 [T]."""
    wav = subprocess.run(ESPEAK, check=True, capture_output=True).stdout
    speech, native_rate = soundfile.read(io.BytesIO(wav))
    speech = soxr.resample(speech, native_rate, SAMPLING_RATE, "VHQ")
    return SPEECH_PEAK * speech / np.abs(speech).max()


def midi_to_hz(note):
    return 440.0 * 2 ** ((note - 69) / 12)


def seconds(duration_s):
    """Sample times, float64 [T]."""
    return np.arange(int(duration_s * SAMPLING_RATE)) / SAMPLING_RATE


def pluck(note, duration_s):
    """A string: harmonics falling as 1/n, each fading faster than the one below it."""
    time = seconds(duration_s)
    pitch = midi_to_hz(note)
    partials = [n for n in range(1, 13) if n * pitch < SAMPLING_RATE / 2]
    tone = sum(np.sin(2 * np.pi * n * pitch * time) * np.exp(-3 * n * time) / n for n in partials)
    return tone * np.minimum(1, time / 0.004)


def pad_chord(notes, duration_s):
    """Slightly detuned sines with a slow swell."""
    time = seconds(duration_s)
    tone = sum(
        np.sin(2 * np.pi * midi_to_hz(note) * detune * time)
        for note in notes
        for detune in (0.998, 1.0, 1.003)
    )
    return tone * np.sin(np.pi * time / duration_s) ** 2 / (3 * len(notes))


def kick():
    time = seconds(0.3)
    phase = 2 * np.pi * (50 * time + 70 / 30 * (1 - np.exp(-30 * time)))
    return np.sin(phase) * np.exp(-12 * time)


def snare(rng):
    time = seconds(0.2)
    return 0.6 * rng.standard_normal(len(time)) * np.exp(-22 * time) + 0.5 * np.sin(
        2 * np.pi * 190 * time
    ) * np.exp(-18 * time)


def hi_hat(rng):
    time = seconds(0.05)
    return np.diff(rng.standard_normal(len(time) + 1)) * np.exp(-90 * time)


def place(mix, sound, start_s, gain, pan):
    """Add a mono sound to the stereo mix [2, T]; pan -1 is left, +1 right, power constant."""
    angle = (pan + 1) * np.pi / 4
    start = int(start_s * SAMPLING_RATE)
    sound = gain * sound[: mix.shape[1] - start]
    mix[0, start : start + len(sound)] += np.cos(angle) * sound
    mix[1, start : start + len(sound)] += np.sin(angle) * sound


def make_music():
    """Two bars with bass, chords, a melody and drums, float64 [2, T]. Left is the louder side."""
    rng = np.random.default_rng(2024)
    mix = np.zeros((2, int(NUM_BEATS * BEAT_S * SAMPLING_RATE)))
    for bar, root in enumerate((45, 41)):
        bar_s = 4 * bar * BEAT_S
        chord = [root + 12, root + 16 - (bar == 0), root + 19]
        place(mix, pad_chord(chord, 4 * BEAT_S), bar_s, gain=0.35, pan=0.5)
        for eighth in range(8):
            place(
                mix, pluck(root - 12 * (eighth % 2 == 0), 0.4), bar_s + eighth * BEAT_S / 2, 0.4, 0
            )
    for step, note in enumerate((76, 72, 69, 74, 72, 71, 69, 64, 72, 69, 65, 67, 69, 72, 77, 76)):
        place(mix, pluck(note, 0.6), step * BEAT_S / 2, gain=0.6, pan=-0.8)
    for beat in range(NUM_BEATS):
        place(mix, kick() if beat % 2 == 0 else snare(rng), beat * BEAT_S, 0.7, 0)
        place(mix, hi_hat(rng), (beat + 0.5) * BEAT_S, gain=0.12, pan=0.9)
    return MUSIC_PEAK * mix / np.abs(mix).max()


def main():
    for name, audio in (("speech", make_speech()), ("music", make_music())):
        soundfile.write(HERE / f"{name}.flac", audio.T, SAMPLING_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
