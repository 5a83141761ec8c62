"""Audio files in, finite float32 samples out."""

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from codax.errors import AudioError

from .sample_types import refuse_non_finite

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64")
"""The suffixes of common formats that libsndfile reads; `.m4a` and `.aac` are not among them."""

_SF_ERR_UNRECOGNISED_FORMAT = 1  # sndfile.h
_BLOCK_SIZE = 1 << 20  # samples over all channels that one read asks for


def read_audio(source: str | os.PathLike | bytes | BinaryIO) -> tuple[np.ndarray, int]:
    """Read a whole audio file, whatever format libsndfile recognises in its content.

    source: a path, the bytes of a file, or a binary file object, which is read from where it stands
    -> samples float32 [C, T] and the sampling rate in Hz. Integer formats are scaled to [-1, 1);
    float formats are returned as stored, beyond 1 too. A file without audio gives [C, 0].

    Raises `AudioError`, naming the file and the reason, where the content is no readable audio or
    holds NaN or infinity, and `OSError` where the path cannot be opened.
    """
    blocks = AudioBlocks(source)
    nothing = np.zeros((blocks.channels, 0), np.float32)
    return np.concatenate([nothing, *blocks], axis=1), blocks.sampling_rate


class AudioBlocks:
    """An audio file that is read block by block, as often as one iterates over it.

    Source, samples and errors are those of `read_audio`; of a path, or a file object that can be
    rewound, no more than a block is held in memory.

    sampling_rate: Hz; channels: how many
    iterating: float32 [C, n]
    """

    def __init__(self, source: str | os.PathLike | bytes | BinaryIO):
        self._content: Any = source
        if isinstance(source, str | os.PathLike):
            self.name = os.fspath(source)
            if not os.path.isfile(source):  # a pipe can be read only once; a folder not at all
                self._content = Path(source).read_bytes()
        elif isinstance(source, bytes):
            self.name = "audio bytes"
        else:
            name = getattr(source, "name", None)
            self.name = name if isinstance(name, str) else "audio file object"
            can_be_rewound = _can_be_rewound(source)
            sample = source.read(0) if can_be_rewound else source.read()
            self._content = source if can_be_rewound else sample
            if not isinstance(sample, bytes):
                raise AudioError(
                    f"{self.name}: opened as text; audio is read from files opened in mode 'rb'"
                )
        with self._opened() as file:
            self.sampling_rate, self.channels = file.samplerate, file.channels

    def __iter__(self) -> Iterator[np.ndarray]:
        """Until no more comes: a header may promise 2**36 frames of nothing."""
        num_samples = 0
        with self._opened() as file:
            while len(block := self._read(file)):
                samples = np.ascontiguousarray(block.T)
                refuse_non_finite(samples, self.name, num_samples)
                num_samples += len(block)
                yield samples

    def _read(self, file: soundfile.SoundFile) -> np.ndarray:
        with self._explained():
            return file.read(_BLOCK_SIZE // file.channels, dtype="float32", always_2d=True)

    @contextmanager
    def _opened(self) -> Iterator[soundfile.SoundFile]:
        with ExitStack() as stack:
            if isinstance(self._content, str | os.PathLike):
                file = stack.enter_context(open(self._content, "rb"))
            elif isinstance(self._content, bytes):
                file = io.BytesIO(self._content)
            else:
                file = self._content
                file.seek(0)
            with self._explained():
                opened = soundfile.SoundFile(file)
            yield stack.enter_context(opened)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except soundfile.LibsndfileError as error:
            reason = error.error_string.rstrip(".")
            if error.code == _SF_ERR_UNRECOGNISED_FORMAT:
                reason = (
                    f"no audio format that can be read ({' '.join(AUDIO_SUFFIXES)}); "
                    "convert .m4a, .aac and others to .wav first"
                )
            raise AudioError(f"{self.name}: {reason}") from error


def _can_be_rewound(file: BinaryIO) -> bool:
    """Whether it stands at its beginning, and can be brought back there."""
    try:
        return file.seekable() and file.tell() == 0
    except (AttributeError, OSError):
        return False
