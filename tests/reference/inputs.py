"""Named test signals, always the same: `make_input(name, sampling_rate, hop_length)`.

Signals named for their content share one length, half a second rounded down to whole frames,
since every new length costs the model under test a compilation. Signals named for a length hold
the same music.
"""

import functools
from pathlib import Path

import numpy as np
import soundfile
import soxr

ASSETS = Path(__file__).resolve().parents[1] / "assets"

STANDARD_LENGTH_S = 0.5
SPEECH_START_S = 0.25  # the first half second without a pause
MUSIC_START_S = 0.4  # a snare, a bass note and three notes of the melody follow


def standard_length(sampling_rate, hop_length):
    """Samples in the content signals, a multiple of the hop."""
    return int(STANDARD_LENGTH_S * sampling_rate) // hop_length * hop_length


@functools.cache
def asset(name, sampling_rate):
    """A file of tests/assets at another rate, float32 [C, T]."""
    audio, native_rate = soundfile.read(ASSETS / f"{name}.flac", always_2d=True)
    return soxr.resample(audio, native_rate, sampling_rate, "VHQ").T.astype(np.float32)


def _excerpt(name, channel, start_s):
    def make(sampling_rate, num_samples):
        return _repeat(
            asset(name, sampling_rate)[channel], int(start_s * sampling_rate), num_samples
        )

    return make


def _repeat(audio, start, num_samples):
    """`num_samples` samples from `start` on, beginning again where the recording ends."""
    return np.take(audio, np.arange(start, start + num_samples), mode="wrap")


def _white_noise(std, seed):
    def make(_sampling_rate, num_samples):
        return std * np.random.default_rng(seed).standard_normal(num_samples)

    return make


def _constant(level):
    return lambda _sampling_rate, num_samples: np.full(num_samples, level)


def _click(_sampling_rate, num_samples):
    click = np.zeros(num_samples)
    click[num_samples // 2 + 17] = 1.0
    return click


def _click_train(sampling_rate, num_samples):
    """100 clicks a second of alternating sign."""
    clicks = np.zeros(num_samples)
    positions = np.arange(3, num_samples, sampling_rate // 100)
    clicks[positions] = 0.9 * (-1.0) ** np.arange(len(positions))
    return clicks


def _square(sampling_rate, num_samples):
    """220 Hz at full scale: every sample is -1 or 1."""
    period = sampling_rate / 220
    return np.where(np.arange(num_samples) % period < period / 2, 1.0, -1.0)


def _sine_sweep(sampling_rate, num_samples):
    """From 20 Hz to 0.45 of the sampling rate, exponentially."""
    time = np.arange(num_samples) / num_samples
    octaves = np.log(0.45 * sampling_rate / 20)
    cycles = 20 * num_samples / sampling_rate / octaves * (np.exp(octaves * time) - 1)
    return 0.5 * np.sin(2 * np.pi * cycles)


def _quiet_speech(sampling_rate, num_samples):
    return 1e-3 * _excerpt("speech", 0, SPEECH_START_S)(sampling_rate, num_samples)


def _speech_in_noise(sampling_rate, num_samples):
    noise = _white_noise(0.02, seed=5)(sampling_rate, num_samples)
    return noise + _excerpt("speech", 0, SPEECH_START_S)(sampling_rate, num_samples)


_CONTENT = {
    "white_noise": _white_noise(0.1, seed=1),
    "white_noise_loud": _white_noise(0.3, seed=2),
    "white_noise_soft": _white_noise(0.01, seed=3),
    "white_noise_1e-4": _white_noise(1e-4, seed=4),
    "speech": _excerpt("speech", 0, SPEECH_START_S),
    "speech_quiet": _quiet_speech,
    "speech_in_noise": _speech_in_noise,
    "music_left": _excerpt("music", 0, MUSIC_START_S),
    "music_right": _excerpt("music", 1, MUSIC_START_S),
    "silence": _constant(0.0),
    "dc": _constant(0.5),
    "click": _click,
    "click_train": _click_train,
    "square_full_scale": _square,
    "sine_sweep": _sine_sweep,
}


def _named_lengths(sampling_rate, hop_length):
    return {
        "one_sample": 1,
        "hop_minus_1": hop_length - 1,
        "hop": hop_length,
        "hop_plus_1": hop_length + 1,
        "two_hops_minus_1": 2 * hop_length - 1,
        "three_hops_plus_7": 3 * hop_length + 7,
        "half_second": sampling_rate // 2,
        "one_second": sampling_rate,
        "two_seconds": 2 * sampling_rate,
        "ten_seconds": 10 * sampling_rate,
    }


ALL = (*_CONTENT, *_named_lengths(1, 1))
QUICK = ("white_noise", "speech", "music_left", "silence", "sine_sweep", "three_hops_plus_7")


def make_content(name, sampling_rate, num_samples):
    """A signal named for its content, of any length: [T]."""
    return _CONTENT[name](sampling_rate, num_samples)


@functools.cache
def make_input(name, sampling_rate, hop_length):
    """The signal called `name` for a model of this rate and hop: float32 [T], read-only."""
    if name in _CONTENT:
        audio = make_content(name, sampling_rate, standard_length(sampling_rate, hop_length))
    else:
        num_samples = _named_lengths(sampling_rate, hop_length)[name]
        audio = _excerpt("music", 0, MUSIC_START_S)(sampling_rate, num_samples)
    audio = np.ascontiguousarray(audio, np.float32)
    audio.flags.writeable = False
    return audio


def pad_to_hop(audio, hop_length):
    """Zeros to the right up to a whole number of frames, as both references' preprocessing does."""
    missing = -audio.shape[-1] % hop_length
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(0, missing)])
