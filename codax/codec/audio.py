"""Samples with their rate, and the files that they are saved to."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from codax.errors import AudioError
from codax.files import atomic_path

# What is written for each suffix: 16 bits where the format has a choice, as players expect.
OUTPUT_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}


@dataclass(frozen=True, eq=False)
class Audio:
    """Audio in memory: samples float32 [C, T], nominally in [-1, 1], at `sampling_rate` Hz."""

    samples: np.ndarray
    sampling_rate: int

    @property
    def channels(self) -> int:
        return self.samples.shape[0]

    @property
    def num_samples(self) -> int:
        return self.samples.shape[1]

    @property
    def duration_s(self) -> float:
        return self.num_samples / self.sampling_rate

    def save(self, path: str | os.PathLike, subtype: str | None = None) -> Path:
        """Write an audio file, in the format that the suffix names; whole or not at all.

        Integer formats clip at full scale. subtype: soundfile's name of another sample format
        ("FLOAT", "PCM_24"); by default `OUTPUT_SUBTYPES`, 16-bit PCM for .wav and .flac.

        Raises `AudioError` for a suffix, subtype, rate or number of channels that the format does
        not have, `OSError` where the file cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in OUTPUT_SUBTYPES:
            raise AudioError(f"{path}: audio is written as {', '.join(OUTPUT_SUBTYPES)}")
        with atomic_path(path) as temporary:
            try:
                soundfile.write(
                    temporary,
                    self.samples.T,
                    self.sampling_rate,
                    subtype=subtype or OUTPUT_SUBTYPES[suffix],
                    format=suffix[1:].upper(),
                )
            except (soundfile.SoundFileError, ValueError) as error:
                raise AudioError(f"{path}: {error}") from error
        return path
