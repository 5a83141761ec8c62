"""Sounds that are neither speech nor music, computed: tones, sweeps, noise, clicks and the like.

A family is a function of a random generator and a number of samples: -> float64 [T] at
`SAMPLING_RATE`, at any level. Those of `TRAIN` and of `HELD_OUT` have nothing in common.
"""

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, chirp, istft, lfilter, sosfilt, stft

from scripts.builtin.acoustics import SAMPLING_RATE, coloured_noise

Family = Callable[[np.random.Generator, int], np.ndarray]

DTMF_LOW_HZ, DTMF_HIGH_HZ = (697, 770, 852, 941), (1209, 1336, 1477, 1633)


def tones(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Beeps: sines, and tones with harmonics."""

    def tone(length: int) -> np.ndarray:
        weights = np.arange(1, random.integers(2, 9)) ** -random.uniform(0.5, 3)
        return _harmonics(np.full(length, _log_uniform(random, 80, 4000)), weights)

    return _in_turn(random, num_samples, tone, (0.08, 1.5), pause_s=0.3)


def sweeps(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Sines that rise or fall."""

    def sweep(length: int) -> np.ndarray:
        times, method = _times(length), str(random.choice(["linear", "logarithmic"]))
        ends = [_log_uniform(random, 60, 7800) for _ in range(2)]
        return chirp(times, ends[0], times[-1] + 1e-3, ends[1], method=method)

    return _in_turn(random, num_samples, sweep, (0.2, 4.0), pause_s=0.2)


def vibrato_chords(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Chords of tones with harmonics and vibrato."""

    def chord(length: int) -> np.ndarray:
        root, times = _log_uniform(random, 80, 500), _times(length)
        weights = np.arange(1, 16) ** -random.uniform(0.7, 2)
        voices = []
        for semitones in random.choice(20, random.integers(1, 5), replace=False):
            wobble = 0.008 * random.random() * np.sin(2 * np.pi * random.uniform(4, 7) * times)
            voices.append(_harmonics(root * 2 ** (semitones / 12) * (1 + wobble), weights))
        return np.sum(voices, axis=0)

    return _in_turn(random, num_samples, chord, (0.5, 4.0), pause_s=0.2)


def noises(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Noise of all colours, swelling and fading."""

    def noise(length: int) -> np.ndarray:
        samples = coloured_noise(random, length, random.uniform(-1, 2.2))
        return samples * 10 ** (_wander(random, length, 2.0) * random.uniform(0, 0.6))

    return _in_turn(random, num_samples, noise, (0.5, 6.0), pause_s=0.1)


def winds(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Noise in one or two bands that move."""
    size = 1024
    frequencies, frames, spectrum = stft(
        random.standard_normal(num_samples), SAMPLING_RATE, nperseg=size
    )
    gains = np.zeros(spectrum.shape)
    for _ in range(random.integers(1, 3)):
        movement = np.interp(frames, _times(num_samples), _wander(random, num_samples, 1.0))
        centres = _log_uniform(random, 300, 3000) * 2 ** (1.2 * movement)
        octaves = np.log2((frequencies[:, None] + 20) / centres)
        gains += np.exp(-0.5 * (octaves / random.uniform(0.1, 0.8)) ** 2)
    _, samples = istft(spectrum * gains, SAMPLING_RATE, nperseg=size)
    return np.resize(samples, num_samples)


def clicks(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Single impulses that make one to three resonances ring."""
    impulses = _impulses(random, num_samples, random.uniform(1, 15))
    return _ringing(random, impulses, (300, 6500), (0.002, 0.04))


def rain(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Hundreds of drops a second, over some noise."""
    drops = _impulses(random, num_samples, _log_uniform(random, 100, 2000))
    drops = _ringing(random, drops, (1500, 6500), (0.0005, 0.003))
    hiss = coloured_noise(random, num_samples, random.uniform(0, 1))
    return drops / drops.std() + random.uniform(0.05, 0.5) * hiss


def bursts(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Noise that begins at once and dies away, in a loose rhythm: claps, hits, shakers."""
    period_s, decay_s = random.uniform(0.12, 0.8), _log_uniform(random, 0.01, 0.2)
    band = np.sort([_log_uniform(random, 100, 7500), _log_uniform(random, 100, 7500)])
    band[1] = min(max(band[1], 1.5 * band[0]), 7900)
    envelope, start_s = np.zeros(num_samples), random.uniform(0, period_s)
    while (start := round(start_s * SAMPLING_RATE)) < num_samples:
        tail = np.exp(-_times(num_samples - start) / decay_s)
        envelope[start:] = np.maximum(envelope[start:], random.uniform(0.3, 1) * tail)
        start_s += period_s * random.choice([0.5, 1, 1, 1, 2]) * random.uniform(0.97, 1.03)
    noise = random.standard_normal(num_samples)
    return envelope * sosfilt(butter(2, band, "band", fs=SAMPLING_RATE, output="sos"), noise)


def bells(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Bells by frequency modulation, which ring into each other."""
    ratio, samples = random.choice([1.4, 2.76, 3.5, 5.4]), np.zeros(num_samples)
    start = 0
    while start < num_samples:
        times = _times(num_samples - start)
        pitch, decay_s = _log_uniform(random, 120, 1400), random.uniform(0.3, 3)
        depth = random.uniform(1, 6) * np.exp(-times / (0.6 * decay_s))
        phase = 2 * np.pi * pitch * times + depth * np.sin(2 * np.pi * pitch * ratio * times)
        samples[start:] += random.uniform(0.3, 1) * np.exp(-times / decay_s) * np.sin(phase)
        start += round(random.uniform(0.2, 1.6) * SAMPLING_RATE)
    return samples


def engines(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Pulses whose rate goes up and down, in resonances, with some noise."""
    rate = _log_uniform(random, 15, 150) * 2 ** _wander(random, num_samples, 0.5)
    rate *= 1 + 0.03 * _wander(random, num_samples, 15.0)
    phase = np.cumsum(rate) / SAMPLING_RATE
    pulses = np.diff(np.floor(phase), prepend=0.0) * random.uniform(0.6, 1, num_samples)
    sound = _ringing(random, pulses, (60, 1500), (0.003, 0.03))
    hiss = coloured_noise(random, num_samples, 1.0) * random.uniform(0.01, 0.2)
    return sound / sound.std() + hiss


def sirens(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Held out: tones with many harmonics that wail, or change between two pitches."""
    times, low = _times(num_samples), _log_uniform(random, 300, 900)
    swing = np.sin(2 * np.pi * random.uniform(0.15, 4) * times)
    if random.random() < 0.5:
        swing = np.tanh(20 * swing)
    pitch = low * random.uniform(1.2, 2.5) ** (0.5 + 0.5 * swing)
    return _harmonics(pitch, np.arange(1, 12) ** -random.uniform(0.8, 1.8))


def plucks(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Held out: strings by the algorithm of Karplus and Strong."""

    def pluck(length: int) -> np.ndarray:
        delay = round(SAMPLING_RATE / _log_uniform(random, 70, 800))
        excitation = np.zeros(length)
        excitation[:delay] = random.uniform(-1, 1, min(delay, length))
        kept = random.uniform(0.96, 0.998) / 2
        return lfilter([1.0], [1.0, *np.zeros(delay - 1), -kept, -kept], excitation)

    return _in_turn(random, num_samples, pluck, (0.15, 1.5), pause_s=0.1)


def dialling(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Held out: the pairs of sines of telephone keys."""

    def key(length: int) -> np.ndarray:
        pair = random.choice(DTMF_LOW_HZ), random.choice(DTMF_HIGH_HZ)
        return sum(np.sin(2 * np.pi * pitch * _times(length)) for pitch in pair)

    return _in_turn(random, num_samples, key, (0.06, 0.3), pause_s=0.3)


def bubbles(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Held out: drops into water, sines that rise while they die away."""
    samples = np.zeros(num_samples)
    for start in np.flatnonzero(_impulses(random, num_samples, random.uniform(3, 40))):
        times = _times(min(num_samples - start, SAMPLING_RATE // 5))
        pitch, rise = _log_uniform(random, 300, 2500), random.uniform(1, 12)
        decay_s = random.uniform(4, 12) / pitch
        bubble = np.sin(2 * np.pi * pitch * times * (1 + rise * times)) * np.exp(-times / decay_s)
        samples[start : start + len(times)] += random.uniform(0.1, 1) * bubble
    return samples


def bars(random: np.random.Generator, num_samples: int) -> np.ndarray:
    """Held out: struck bars and plates, of partials that are no harmonics."""
    ratios = np.cumsum(random.uniform(0.4, 1.9, 10)) + 1.0

    def stroke(length: int) -> np.ndarray:
        pitch, decay_s = _log_uniform(random, 100, 900), random.uniform(0.1, 1.5)
        times = _times(length)
        partials = [
            np.sin(2 * np.pi * pitch * ratio * times) * np.exp(-times * ratio / decay_s) / ratio
            for ratio in [1.0, *ratios]
            if pitch * ratio < 7800
        ]
        return np.sum(partials, axis=0)

    return _in_turn(random, num_samples, stroke, (0.1, 1.5), pause_s=0.1)


TRAIN: tuple[Family, ...] = (
    tones,
    sweeps,
    vibrato_chords,
    noises,
    winds,
    clicks,
    rain,
    bursts,
    bells,
    engines,
)
HELD_OUT: tuple[Family, ...] = (sirens, plucks, dialling, bubbles, bars)


def _in_turn(
    random: np.random.Generator,
    num_samples: int,
    sound: Callable[[int], np.ndarray],
    lengths_s: tuple[float, float],
    pause_s: float,
) -> np.ndarray:
    """Sounds one after the other, each of its own loudness, faded in and out.

    sound: a number of samples -> as many; lengths_s: between which it is drawn; pause_s: at most
    """
    samples, start = np.zeros(num_samples), 0
    while start < num_samples:
        length = round(_log_uniform(random, *lengths_s) * SAMPLING_RATE)
        one = sound(length)
        one *= random.uniform(0.3, 1) / max(np.abs(one).max(), 1e-9)
        fade = np.clip(np.arange(length) / (0.005 * SAMPLING_RATE), 0, 1)
        one = (one * fade * fade[::-1])[: num_samples - start]
        samples[start : start + len(one)] = one
        start += length + round(random.uniform(0, pause_s) * SAMPLING_RATE)
    return samples


def _harmonics(pitch: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """pitch: Hz [T]; weights: of its harmonics, from the first, those beyond 7.8 kHz left out."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    numbers = range(1, len(weights) + 1)
    heard = [(pitch * number < 7800) * np.sin(number * phase) for number in numbers]
    return weights @ np.array(heard)


def _impulses(random: np.random.Generator, num_samples: int, rate_hz: float) -> np.ndarray:
    """Impulses of any height up to 1 and both signs, at random times, so many a second."""
    happens = random.random(num_samples) < rate_hz / SAMPLING_RATE
    happens[random.integers(num_samples // 2)] = True
    return happens * random.uniform(-1, 1, num_samples)


def _ringing(
    random: np.random.Generator,
    impulses: np.ndarray,
    frequencies_hz: tuple[float, float],
    decays_s: tuple[float, float],
) -> np.ndarray:
    """What two or three resonances make of impulses; all are drawn between these limits."""
    samples = 0.1 * impulses
    for _ in range(random.integers(2, 4)):
        angle = 2 * np.pi * _log_uniform(random, *frequencies_hz) / SAMPLING_RATE
        radius = np.exp(-1 / (_log_uniform(random, *decays_s) * SAMPLING_RATE))
        poles = [1.0, -2 * radius * np.cos(angle), radius**2]
        samples = samples + lfilter([np.sin(angle)], poles, impulses)
    return samples


def _wander(random: np.random.Generator, num_samples: int, rate_hz: float) -> np.ndarray:
    """Something between -1 and 1 that turns so often in a second, smoothly. float64 [T]."""
    num_knots = int(num_samples / SAMPLING_RATE * rate_hz) + 3
    knots = random.uniform(-1, 1, num_knots)
    places = np.linspace(0, num_knots - 1.001, num_samples)
    left = places.astype(int)
    weight = 0.5 - 0.5 * np.cos(np.pi * (places - left))
    return (1 - weight) * knots[left] + weight * knots[left + 1]


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _times(num_samples: int) -> np.ndarray:
    """Seconds, of samples from 0 on."""
    return np.arange(num_samples) / SAMPLING_RATE
