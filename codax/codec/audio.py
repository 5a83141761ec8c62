"""Samples with their rate, and the files that they are saved to."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from codax.errors import AudioError
from codax.files import atomic_path

# What is written for each suffix: 16 bits where the format has a choice, as players expect.
OUTPUT_SUBTYPES = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}

UNCLIPPED_SUBTYPES = ("FLOAT", "DOUBLE")

SAMPLES_AT_ONCE = 2**16


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

    def without_clipping(self, peak: float = 0.99) -> "Audio":
        """Turned down, all channels alike, until no sample exceeds `peak`; or as it is."""
        self._require_finite()
        largest = float(np.abs(self.samples).max(initial=0.0))
        if largest <= peak:
            return self
        return Audio(self.samples * np.float32(peak / largest), self.sampling_rate)

    def save(self, path: str | os.PathLike, subtype: str | None = None) -> Path:
        """Write an audio file, in the format that the suffix names; whole or not at all.

        Integer formats clip at full scale. subtype: soundfile's name of another sample format
        ("FLOAT", "PCM_24"); by default `OUTPUT_SUBTYPES`, 16-bit PCM for .wav and .flac.

        Raises `AudioError` for a suffix, subtype, rate or number of channels that the format does
        not have and for samples that are NaN or infinite, `OSError` where the file cannot be
        written.
        """
        path = Path(path)
        self._require_finite(f"{path}: ")
        suffix = path.suffix.lower()
        if suffix not in OUTPUT_SUBTYPES:
            raise AudioError(f"{path}: audio is written as {', '.join(OUTPUT_SUBTYPES)}")
        try:
            content = self._file_content(suffix[1:].upper(), subtype or OUTPUT_SUBTYPES[suffix])
        except (soundfile.SoundFileError, ValueError) as error:
            raise AudioError(f"{path}: {error}") from error
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        return path

    def _require_finite(self, prefix: str = "") -> None:
        if not np.isfinite(self.samples).all():
            raise AudioError(f"{prefix}there are samples that are no finite numbers")

    def _file_content(self, file_format: str, subtype: str) -> bytes:
        """The audio file in memory: libsndfile does not tell of a disk that is full.

        In pieces, since its Vorbis encoder puts as much on the stack as it is given at once; and
        clipped here, since its MP3 encoder ends the process for samples of 1e10 and beyond.
        """
        clips = subtype not in UNCLIPPED_SUBTYPES
        buffer = io.BytesIO()
        with soundfile.SoundFile(
            buffer,
            "w",
            samplerate=self.sampling_rate,
            channels=self.channels,
            subtype=subtype,
            format=file_format,
        ) as file:
            for start in range(0, self.num_samples, SAMPLES_AT_ONCE):
                piece = self.samples[:, start : start + SAMPLES_AT_ONCE].T
                file.write(piece.clip(-1, 1) if clips else piece)
        return buffer.getvalue()
