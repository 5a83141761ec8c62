"""Named test signals for the EnCodec models: `make_input(name, variant)`.

Signals named for their content share one length; for models that code segments it makes two. They
are no whole number of frames, since EnCodec takes any length as it is. Signals named for a length
hold the same music.
"""

import functools

import numpy as np

from . import inputs

# Of the content signals, in segments for models that code segments.
STANDARD_LENGTH_S = 0.5
STANDARD_SEGMENTS = 1.3
RAGGED = 13  # samples that the standard length lacks to whole frames

MUSIC = ("music_left", "music_right")
SPEECH_DELAY_S = 0.0005  # from the left to the right ear


def standard_length(variant):
    """Samples in the content signals."""
    num_samples = STANDARD_LENGTH_S * variant.sampling_rate
    if variant.chunk_length is not None:
        num_samples = STANDARD_SEGMENTS * variant.chunk_length
    return int(num_samples) // variant.hop_length * variant.hop_length - RAGGED


def _both(name, right=None):
    """The same signal in every channel, or another one on the right."""

    def make(variant, num_samples):
        names = (name, right or name)[: variant.audio_channels]
        return np.stack(
            [inputs.make_content(name, variant.sampling_rate, num_samples) for name in names]
        )

    return make


def _speech(variant, num_samples):
    """From the left: the right channel hears it later and softer."""
    delay = max(1, int(SPEECH_DELAY_S * variant.sampling_rate))
    speech = inputs.make_content("speech", variant.sampling_rate, num_samples + delay)
    return np.stack([speech[delay:], 0.7 * speech[:-delay]][: variant.audio_channels])


def _one_side(variant, num_samples):
    """Music on the left (the only channel of mono models, upside down), nothing on the right."""
    audio = -_both(*MUSIC)(variant, num_samples)
    audio[1:] = 0.0
    return audio


def _opposite(variant, num_samples):
    """Channels that cancel: their mean, of which the model takes the level, is silent."""
    audio = np.repeat(_both("music_left")(variant, num_samples)[:1], variant.audio_channels, axis=0)
    audio[1:] *= -1.0
    return audio * (1.0 if variant.audio_channels > 1 else 0.5)


_CONTENT = {
    "white_noise": _both("white_noise", "speech_in_noise"),
    "white_noise_loud": _both("white_noise_loud", "white_noise_soft"),
    "white_noise_1e-4": _both("white_noise_1e-4"),
    "speech": _speech,
    "speech_quiet": _both("speech_quiet"),
    "speech_in_noise": _both("speech_in_noise", "speech"),
    "music": _both(*MUSIC),
    "music_one_side": _one_side,
    "music_opposite": _opposite,
    "silence": _both("silence"),
    "dc": _both("dc"),
    "click": _both("click"),
    "click_train": _both("click_train", "click"),
    "square_full_scale": _both("square_full_scale"),
    "sine_sweep": _both("sine_sweep", "white_noise_soft"),
}


def _named_lengths(variant):
    rate, hop = variant.sampling_rate, variant.hop_length
    lengths = {
        "one_sample": 1,
        "two_samples": 2,
        "hop_minus_1": hop - 1,
        "hop": hop,
        "hop_plus_1": hop + 1,
        "two_hops_minus_1": 2 * hop - 1,
        "three_hops_plus_7": 3 * hop + 7,
        "six_hops": 6 * hop,  # as much as the last convolution reflects
        "six_hops_plus_1": 6 * hop + 1,
        "half_second": rate // 2,
        "one_second": rate,
        "two_seconds": 2 * rate,
        "ten_seconds": 10 * rate,
    }
    if variant.chunk_length is not None:
        lengths |= _lengths_at_segment_boundaries(variant)
        if variant.chunk_length == rate:
            del lengths["one_second"]
    return lengths


def _lengths_at_segment_boundaries(variant):
    """Numbers are those of the 48 kHz model."""
    hop, chunk, stride = variant.hop_length, variant.chunk_length, variant.chunk_stride
    to_whole_frames = -stride % hop
    return {
        "stride_minus_1": stride - 1,  # 47519: one segment
        "stride": stride,  # 47520
        "stride_plus_1": stride + 1,  # 47521: the second segment is one sample
        "stride_to_whole_frames": stride + to_whole_frames,  # 47680
        "stride_to_whole_frames_plus_1": stride + to_whole_frames + 1,  # 47681: losing overlap
        "stride_and_hop_minus_1": stride + hop - 1,  # 47839
        "stride_and_hop": stride + hop,  # 47840
        "stride_and_hop_plus_1": stride + hop + 1,  # 47841: not any more
        "stride_and_hop_plus_2": stride + hop + 2,  # 47842
        "chunk": chunk,  # 48000
        "chunk_plus_1": chunk + 1,  # 48001
        "two_strides": 2 * stride,  # 95040
        "two_strides_and_a_half_frame": 2 * stride + to_whole_frames,  # 95200: 150, 149, 1 frames
        "two_strides_losing_overlap": 2 * stride + to_whole_frames + 1,  # 95201
        "two_strides_and_overlap_plus_1": stride + chunk + 1,  # 95521
    }


QUICK = ("speech", "music", "silence", "click", "three_hops_plus_7")
LONG = ("two_seconds", "ten_seconds")


def names(variant):
    """The names of all inputs for a model: at least 28, of different lengths or content."""
    return (*_CONTENT, *_named_lengths(variant))


def make_music(variant, num_samples):
    """The signal of the inputs named for a length, of any length: float32 [C, num_samples]."""
    return np.ascontiguousarray(_both(*MUSIC)(variant, num_samples), np.float32)


def num_samples(name, variant):
    """The length of an input."""
    if name in _CONTENT:
        return standard_length(variant)
    return _named_lengths(variant)[name]


@functools.cache
def make_input(name, variant):
    """The signal called `name`: float32 [C, T], read-only."""
    make = _CONTENT.get(name, _both(*MUSIC))
    audio = np.ascontiguousarray(make(variant, num_samples(name, variant)), np.float32)
    audio.flags.writeable = False
    return audio
