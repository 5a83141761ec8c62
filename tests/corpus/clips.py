"""Clips of audio as data sets hold them."""

import io

import numpy as np
import soundfile
from datasets import Audio, Dataset, Features, Value

from tests.tiny_encodec import noise

# (channels in those of a stream, samples, Hz): two lengths at the models' 8 kHz, one segment apart,
# since each costs a compilation.
SHAPES = ((1, 1600, 8000), (2, 3200, 16000), (2, 1224, 8000), (1, 2205, 11025))


def mixed_clips(channels_per_stream=1):
    """[(float32 [C, T], Hz)]: mono and stereo for a mono model, stereo and four channels else."""
    return [
        (noise(count * channels_per_stream, length, seed=length), rate)
        for count, length, rate in SHAPES
    ]


def file_of(samples, rate, file_format="WAV", subtype="FLOAT"):
    """The bytes of an audio file with samples [C, T]."""
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples).T, rate, subtype, format=file_format)
    return file.getvalue()


def dataset_of(values, **columns):
    """A data set of [{"bytes", "path"}], made without torchcodec."""
    stored = {"bytes": Value("binary"), "path": Value("string")}
    kinds = {"audio": stored, **{name: Value("int64") for name in columns}}
    dataset = Dataset.from_dict({"audio": values, **columns}, Features(kinds))
    return dataset.cast_column("audio", Audio(decode=False))


class Decoder:
    """What `datasets` gives for audio where torchcodec is installed, as far as codax uses it."""

    def __init__(self, samples, rate):
        self._samples, self._rate = samples, rate

    def get_all_samples(self):
        return Samples(self._samples, self._rate)


class Samples:
    """torchcodec's `AudioSamples`."""

    def __init__(self, data, sample_rate):
        self.data, self.sample_rate = data, sample_rate
