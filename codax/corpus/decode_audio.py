"""Codes of a data set to audio: the way back."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from codax.codec import Audio
from codax.codec.audio import OUTPUT_SUBTYPES
from codax.corpus.loading import NamedModel
from codax.corpus.rows import at_clip, clip_of
from codax.errors import CodaxError

FILE_FORMATS = tuple(suffix[1:] for suffix in OUTPUT_SUBTYPES)
COLUMNS = ("codes", "sampling_rate", "num_samples", "num_channels")
OPTIONAL_COLUMNS = ("input_db", "segment_frames", "scales", "error")


class DecodeAudio:
    """Codes to audio: `dataset.map(DecodeAudio("descript/dac_44khz"), batched=True)`.

    Takes the columns that `EncodeAudio` gives and adds a column of audio, of the length, rate,
    channels and loudness of the original: {"array": float32 [C, T], "sampling_rate"}, or with
    `file_format` {"bytes", "path": None}, which `cast_column(..., Audio())` decodes: files as
    `Audio.save` writes them. Pickles as `EncodeAudio` does.

    model, revision, chunk_length_s, batch_length_s: as `EncodeAudio` takes them
    column: of the audio
    restore_loudness: False leaves it at the level that it was coded at
    file_format: "wav", "flac", "ogg", "mp3", or None for arrays

    Raises `FormatError` for a row that this model cannot have made, or that has no codes,
    `AudioError` for audio that the file format cannot hold.
    """

    def __init__(
        self,
        model: str | os.PathLike,
        *,
        revision: str | None = None,
        column: str = "audio",
        restore_loudness: bool = True,
        chunk_length_s: float | None = None,
        batch_length_s: float | None = None,
        file_format: str | None = None,
    ):
        if file_format not in (None, *FILE_FORMATS):
            allowed = ", ".join(FILE_FORMATS)
            raise ValueError(f"file_format={file_format!r} must be {allowed} or None")
        self.named = NamedModel(model, revision)
        self.column = column
        self.restore_loudness = restore_loudness
        self.chunk_length_s = chunk_length_s
        self.batch_length_s = batch_length_s
        self.file_format = file_format

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        """A batch of `datasets.map`, or one example -> the column of audio."""
        codec = self.named.codec(rank)
        missing = [name for name in COLUMNS if name not in batch]
        if missing:
            raise KeyError(f"there is no column {missing[0]!r}, but {', '.join(batch)}")
        is_batch = np.ndim(batch["num_samples"]) == 1
        names = [name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in batch]
        columns = {name: batch[name] if is_batch else [batch[name]] for name in names}
        by_row = zip(*columns.values(), strict=True)
        rows = [dict(zip(names, values, strict=True)) for values in by_row]
        channels = codec.config.audio_channels
        clips = []
        for index, row in enumerate(rows):
            with _named(index):
                clips.append((index, clip_of(row, channels)))
        audio: dict[int, Any] = {}
        for index, decoded in codec.decode_clips(
            clips, self.restore_loudness, self.chunk_length_s, self.batch_length_s
        ):
            with _named(index):
                if isinstance(decoded, Exception):
                    raise decoded
                audio[index] = self._value(decoded)
        values = [audio[index] for index in range(len(rows))]
        return {self.column: values if is_batch else values[0]}

    def _value(self, audio: Audio) -> dict[str, Any]:
        if self.file_format is None:
            return {"array": audio.samples, "sampling_rate": audio.sampling_rate}
        return {"bytes": audio.to_bytes(self.file_format), "path": None}


@contextmanager
def _named(index: int) -> Iterator[None]:
    """Errors say which clip of the batch has them."""
    try:
        yield
    except CodaxError as error:
        raise at_clip(index, error) from error
