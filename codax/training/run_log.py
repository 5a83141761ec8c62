"""What a run tells on its way: for tensorboard, and as lines of JSON."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from tensorboardX import SummaryWriter

from codax.evaluation.spectra import mel_spectrogram
from codax.files import atomic_path

LINES = "losses.jsonl"
NUM_MELS, WINDOW = 80, 1024
RANGE_DB = 80.0
"""Of a picture, below its loudest point."""


class RunLog:
    """Losses, measures, audio and spectrograms of a run, in a folder.

    step: from which on it is written; what an earlier run wrote of later steps is dropped
    is_writer: False writes nothing, as for all but one of several processes
    """

    def __init__(self, folder: Path, step: int, is_writer: bool = True):
        self._writer: Any = None
        if not is_writer:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LINES
        _drop_after(self._path, step)
        self._lines = self._path.open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
            self._lines.close()

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """Numbers of a step. kind: of them, such as "train"."""
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        self._lines.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        self._lines.flush()

    def write_audio(
        self, step: int, sampling_rate: int, decoded: np.ndarray, original: np.ndarray
    ) -> None:
        """Audio float32 [C, T] and its spectrogram, decoded above original."""
        if self._writer is None:
            return
        for name, samples in (("decoded", decoded), ("original", original)):
            mono = np.clip(samples.mean(axis=0), -1, 1)
            self._writer.add_audio(f"audio/{name}", mono, step, sampling_rate)
        pictures = [_picture(samples, sampling_rate) for samples in (decoded, original)]
        self._writer.add_image("spectrogram", np.concatenate(pictures), step, dataformats="HW")


def _picture(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Audio [C, T] -> its mel spectrogram as a picture uint8 [H, W], low frequencies below."""
    mels = np.asarray(mel_spectrogram(jnp.asarray(samples), sampling_rate, NUM_MELS, WINDOW))
    levels = 20 * np.log10(np.maximum(mels.reshape(-1, *mels.shape[-2:])[0], 1e-5))
    levels = np.clip((levels - levels.max()) / RANGE_DB + 1, 0, 1)
    return (255 * levels[::-1]).astype(np.uint8)


def _drop_after(path: Path, step: int) -> None:
    """Keep the lines of a log up to a step; one that was cut off goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
