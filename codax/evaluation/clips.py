"""The clips that an evaluation hears, by name."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from codax.codec.preparing import AudioSource, LoadedClip, Preparation
from codax.errors import AudioError, CodaxError
from codax.evaluation.distances import MEL_WINDOWS
from codax.feature_extraction import AUDIO_SUFFIXES

UNREAD_SUFFIXES = (".m4a", ".mp4", ".aac")
"""Found in a folder all the same, so that they are told of."""

SHORTEST = max(MEL_WINDOWS) // 2 + 1
"""Samples at the model's rate: the longest window must be reflected at the ends of a clip."""

MOST_SAMPLES = 1 << 26
"""In all channels, at the model's rate: 25 minutes at 44.1 kHz. A clip is measured as a whole."""

Clips = str | os.PathLike | Iterable[AudioSource]


def named_clips(clips: Clips) -> Iterator[tuple[str, AudioSource]]:
    """Give each clip with its name: what a folder holds, sorted, or what is iterated over.

    clips: a folder, an audio file, or any iterable of what `AudioCodec.encode` takes and that knows
        its rate (paths, bytes of files, `Audio`)

    Raises `CodaxError` for a folder without audio, and a path that does not exist.
    """
    if isinstance(clips, str | os.PathLike):
        path = Path(clips)
        if not path.exists():
            raise CodaxError(f"{path}: no such file or folder")
        clips = _audio_files(path) if path.is_dir() else [path]
    for number, clip in enumerate(clips, start=1):
        named = isinstance(clip, str | os.PathLike)
        yield (os.fspath(clip) if named else f"clip {number}"), clip


def load_clip(
    source: AudioSource, preparation: Preparation, excerpt_s: float | None = None
) -> LoadedClip:
    """Prepare a clip, and hold it as one at the model's rate that needs no more preparing.

    excerpt_s: seconds from its beginning that are kept, after its loudness was measured as a whole

    Raises `AudioError` for clips that cannot be read, that are too short or too long.
    """
    prepared = preparation.of(source).loaded(MOST_SAMPLES)
    if prepared is None:
        raise AudioError(f"has more than {MOST_SAMPLES} samples; cut it up")
    rate = preparation.sampling_rate
    samples = prepared.samples
    if excerpt_s is not None:
        samples = samples[:, : max(round(excerpt_s * rate), 1)]
    length = samples.shape[1]
    if length < SHORTEST:
        raise AudioError(
            f"is too short to be measured: {length} samples at {rate} Hz, at least {SHORTEST} "
            f"({SHORTEST / rate:.3f} s) are needed"
        )
    return LoadedClip(samples, rate, length, input_db=None)


def _audio_files(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    paths = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if Path(name).suffix.lower() in AUDIO_SUFFIXES + UNREAD_SUFFIXES
        and not name.startswith(".")
    ]
    if not paths:
        raise CodaxError(f"{folder}: holds no audio ({' '.join(AUDIO_SUFFIXES)})")
    return sorted(paths)
