"""What happens to a sound between its source and a file: level, room, noise, a narrow band.

All samples are float64 [T], mono, at `SAMPLING_RATE`.
"""

from collections.abc import Mapping

import numpy as np
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

SAMPLING_RATE = 16000
"""Hz, of all audio that is made."""

LEVELS_DB = (-30.0, -16.0)
"""Between which the level of a clip is drawn (`active_level_db`)."""

FLOORS_DB = (-72.0, -54.0)
"""Between which the level of the noise is drawn that every clip has, as every recording does."""

HIGHEST_PEAK = 0.89
"""A clip with a higher one is made quieter: 1 dB below full scale."""

FRAME_S = 0.05
ACTIVE_RANGE_DB = 30.0


def resampled(samples: np.ndarray, rate: float, speed: float = 1.0) -> np.ndarray:
    """Bring audio to `SAMPLING_RATE`.

    samples: float [T] or [T, C], whose channels are mixed; rate: its own, in Hz
    speed: above 1 it is faster and higher, voices as if of a smaller person
    """
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    if rate * speed == SAMPLING_RATE:
        return mono
    return soxr.resample(mono, rate * speed, SAMPLING_RATE, quality="VHQ")


def cut(samples: np.ndarray, num_samples: int, fade_s: float = 0.02) -> np.ndarray:
    """The first `num_samples`, faded out where something follows, or zeros after a shorter one."""
    kept = samples[:num_samples].copy()
    if len(samples) > num_samples:
        fade = min(round(fade_s * SAMPLING_RATE), num_samples)
        kept[num_samples - fade :] *= np.linspace(1, 0, fade)
    return np.pad(kept, (0, num_samples - len(kept)))


def active_level_db(samples: np.ndarray) -> float:
    """dB, of the root mean square in relation to full scale; pauses do not count.

    It is that of the frames of `FRAME_S` that are at most `ACTIVE_RANGE_DB` below the loudest;
    -inf for silence.
    """
    frame = round(FRAME_S * SAMPLING_RATE)
    padded = np.pad(samples, (0, -len(samples) % frame))
    powers = (padded.reshape(-1, frame) ** 2).mean(axis=1)
    active = powers[powers >= powers.max() * 10 ** (-ACTIVE_RANGE_DB / 10)]
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(active.mean()))


def at_level(samples: np.ndarray, level_db: float) -> np.ndarray:
    """Bring audio to a level, or to a peak of `HIGHEST_PEAK` where that level is beyond it."""
    louder = samples * 10 ** ((level_db - active_level_db(samples)) / 20)
    return louder * min(1.0, HIGHEST_PEAK / np.abs(louder).max())


def treated(
    random: np.random.Generator, samples: np.ndarray, chances: Mapping[str, float]
) -> tuple[np.ndarray, list[str]]:
    """Treat a clip by chance, in the order in which it happens to a recording, and set its level.

    Then comes a floor of noise. Without one, pauses and empty bands are digital silence, which no
    recording has and logarithms of spectra make much of.

    chances: a name in `TREATMENTS` -> how likely it is
    -> float64 [T], and the names of what was done
    """
    done = []
    for name, treatment in TREATMENTS.items():
        if random.random() < chances.get(name, 0.0):
            samples = treatment(random, samples)
            done.append(name)
    samples = at_level(samples, random.uniform(*LEVELS_DB))
    floor = coloured_noise(random, len(samples), random.uniform(0, 1))
    return samples + 10 ** (random.uniform(*FLOORS_DB) / 20) * floor, done


def in_room(random: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Add a reverberation of 0.15 to 0.8 s, from 12 dB below the sound to as loud as it is."""
    decay_s = random.uniform(0.15, 0.8)
    times = np.arange(round(decay_s * SAMPLING_RATE)) / SAMPLING_RATE
    tail = random.standard_normal(len(times)) * 10 ** (-3 * times / decay_s)
    tail = _below(tail, random.uniform(3000, 7500), order=1)
    echoes = np.pad(
        tail / np.linalg.norm(tail), (round(random.uniform(0.002, 0.02) * SAMPLING_RATE), 0)
    )
    direct_to_reverberant_db = random.uniform(0, 12)
    reverberant = fftconvolve(samples, echoes)[: len(samples)]
    return samples + 10 ** (-direct_to_reverberant_db / 20) * reverberant


def coloured(random: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Bend the spectrum by up to 6 dB up or down, smoothly, as microphones do."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLING_RATE)
    octaves = np.log2(np.maximum(frequencies, 60.0) / 60)  # of which there are seven
    gains_db = np.interp(octaves, range(8), random.uniform(-6, 6, 8))
    return np.fft.irfft(np.fft.rfft(samples) * 10 ** (gains_db / 20), len(samples))


def in_narrow_band(random: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Take away what is above 2.5 to 6 kHz."""
    return _below(samples, random.uniform(2500, 6000), order=int(random.choice([2, 4, 8])))


def with_noise(random: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Add white, pink or brown noise, or one between them, 20 to 40 dB below the sound."""
    noise = coloured_noise(random, len(samples), random.uniform(0, 2))
    return samples + at_level(noise, active_level_db(samples) - random.uniform(20, 40))


TREATMENTS = {
    "room": in_room,
    "colour": coloured,
    "narrow band": in_narrow_band,
    "noise": with_noise,
}


def coloured_noise(random: np.random.Generator, num_samples: int, slope: float) -> np.ndarray:
    """Noise whose power falls with the frequency to the power of `slope`; deviation 1.

    slope: 0 for white, 1 for pink, 2 for brown, -1 for blue noise. Below 40 Hz it is flat.
    """
    frequencies = np.fft.rfftfreq(num_samples, 1 / SAMPLING_RATE)
    spectrum = np.fft.rfft(random.standard_normal(num_samples))
    noise = np.fft.irfft(spectrum * np.maximum(frequencies, 40.0) ** (-slope / 2), num_samples)
    return noise / noise.std()


def _below(samples: np.ndarray, frequency_hz: float, order: int) -> np.ndarray:
    return sosfilt(butter(order, frequency_hz, fs=SAMPLING_RATE, output="sos"), samples)
