"""How far audio that is decoded in chunks is from audio that is decoded in one piece, and where.

    python benchmarks/seams.py                            # DAC 44.1 kHz and EnCodec 24 kHz
    python benchmarks/seams.py --picture docs/seams.png   # needs matplotlib (pip install it)
    python benchmarks/seams.py --fade-shares 1 2 4 8 0    # what chunking.FADE_SHARE should be
    python benchmarks/seams.py --model descript/dac_44khz # real weights: a folder or Hub id

Without --model the weights are random, of full size. What goes through the network is the codes of
a spoken sentence and of synthesised music. Errors are those of the chunks' audio against the
whole's, relative to the root mean square of the whole's.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import soxr

sys.path.insert(0, str(Path(__file__).parents[1]))

from codax.configuration import preset_config
from codax.configuration.config_fields import DecodeChunks
from codax.modeling import chunking, model_class_of

ROOT = Path(__file__).parents[1]

BANDWIDTH = 6.0  # kbps, of EnCodec models that have it; others have one
AUDIBLE_DB = -60.0  # samples whose error is above it, below the whole's RMS, are counted
SILENT_DB = -160.0  # of no error at all
ALL_DROPPED = -(2**31)  # a FADE_SHARE: one frame in minus many, rounded up, is none

# The ends of the bins of distance to the nearest border, in the table and in the picture.
TABLE_EDGES_MS = (0, 10, 25, 50, 100, 200)
PICTURE_REACH_MS, PICTURE_STEP_MS = 250, 5


@dataclass(frozen=True)
class Setting:
    """One way of decoding in chunks; fade_share: instead of `chunking.FADE_SHARE`."""

    name: str
    mode: str
    overlap: float
    fade_share: int | None = None


MODES = (
    Setting("naive concatenation", "overlap_average", 0.0),
    Setting("mean, overlap 0.1", "mean", 0.1),
    Setting("overlap_average, overlap 0.1", "overlap_average", 0.1),
    Setting("overlap_average, overlap 0.25", "overlap_average", 0.25),
    Setting("exact", "exact", 0.0),
)


@dataclass(frozen=True)
class Measured:
    """The error of one clip: float64 [T], relative to the RMS of the whole decoding.

    distance_ms: float64 [T], signed, from the nearest border between two chunks
    level: that RMS
    """

    model: str
    clip: str
    setting: Setting
    error: np.ndarray
    distance_ms: np.ndarray
    level: float


def main() -> None:
    options = _parse()
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [options.model] if options.model else options.presets:
            path = options.model or _write_checkpoint(name, Path(folder, name))
            measured += _measure_model(name, path, options)
    if options.picture:
        _draw(measured, options.picture)


def _measure_model(name: str, path: Any, options: argparse.Namespace) -> list[Measured]:
    model = model_class_of(path).from_pretrained(path)
    clips = _clips(model.config.sampling_rate, options.seconds)
    codes = _encode(model, np.stack([*clips.values()]))
    whole = _decode(model, codes)
    _print_header(name, whole, options.chunk_length_s)
    results = []
    for setting in _settings(options):
        chunks = model.config.decode_chunks(options.chunk_length_s, setting.overlap, setting.mode)
        share = chunking.FADE_SHARE if setting.fade_share is None else setting.fade_share
        with mock.patch.object(chunking, "FADE_SHARE", share or ALL_DROPPED):
            borders = _borders(model.config, chunks, codes.shape[-1])
            decoded = _decode(model, codes, options.chunk_length_s, setting)
        # With odd strides, "mean" loses some samples at every border.
        length = min(decoded.shape[-1], whole.shape[-1])
        distance = _distance(length, borders) / model.config.sampling_rate * 1000
        for clip, audio, reference in zip(clips, decoded, whole, strict=True):
            level = float(np.sqrt(np.mean(reference**2)))
            error = (audio[:length] - reference[:length]) / level
            results.append(Measured(name, clip, setting, error, distance, level))
            print(_row((setting.name, clip, *_figures(results[-1]))), flush=True)
    return results


def _settings(options: argparse.Namespace) -> tuple[Setting, ...]:
    if not options.fade_shares:
        return MODES
    base = Setting("", "overlap_average", options.overlap)
    return tuple(
        replace(base, name=f"1/{share} averaged" if share else "none averaged", fade_share=share)
        for share in options.fade_shares
    )


def _encode(model: Any, audio: np.ndarray) -> np.ndarray:
    """float32 [B, T] -> codes int32 [B, K, F]."""
    if model.config.model_type == "dac":
        return np.asarray(model.encode(audio[:, None]).audio_codes)
    if model.config.segmenting is not None or model.config.audio_channels != 1:
        raise SystemExit("a model that codes segments decodes them as they are: nothing to measure")
    bandwidths = model.config.target_bandwidths
    bandwidth = BANDWIDTH if BANDWIDTH in bandwidths else bandwidths[-1]
    return np.asarray(model.encode(audio[:, None], bandwidth=bandwidth).audio_codes[0])


def _decode(
    model: Any, codes: np.ndarray, chunk_length_s: float = 0, setting: Setting = MODES[0]
) -> np.ndarray:
    """int32 [B, K, F] -> float64 [B, T], of 0-second chunks in one piece."""
    chunks = {
        "chunk_length_s": chunk_length_s,
        "overlap": setting.overlap,
        "chunk_mode": setting.mode,
    }
    if model.config.model_type == "dac":
        audio = model.decode(audio_codes=codes, **chunks).audio_values
    else:
        audio = model.decode(codes[None], **chunks).audio_values[:, 0]
    return np.asarray(audio, np.float64)


def _borders(config: Any, chunks: DecodeChunks, num_frames: int) -> np.ndarray:
    """Samples at which one chunk gives way to the next: the middle of what both keep."""
    if config.model_type == "dac":
        context = config.decoder_context_frames
    else:
        context = (config.decoder_context.before, config.decoder_context.after)
    windows = chunking.Chunking.of(chunks, context).windows(num_frames)
    frames = [(left.keep_stop + right.keep_start) / 2 for left, right in pairwise(windows)]
    return np.array(frames) * config.hop_length


def _distance(num_samples: int, borders: np.ndarray) -> np.ndarray:
    """float64 [T]: samples from the nearest border, negative before it."""
    positions = np.arange(num_samples) + 0.5
    after = np.searchsorted(borders, positions).clip(1, len(borders) - 1)
    to_last, to_next = positions - borders[after - 1], positions - borders[after]
    return np.where(np.abs(to_last) < np.abs(to_next), to_last, to_next)


def _decibels(errors: np.ndarray) -> float:
    """Root mean square of relative errors."""
    power = np.mean(errors**2) if len(errors) else np.nan
    return max(10 * np.log10(power + 1e-30), SILENT_DB)


def _print_header(name: str, whole: np.ndarray, chunk_length_s: float) -> None:
    levels = ", ".join(f"{np.sqrt(np.mean(one**2)):.3f}" for one in whole)
    print(f"\n{name}, {chunk_length_s:g} s chunks; RMS of the whole decodings: {levels}\n")
    header = (
        "chunks",
        "clip",
        "RMS error, dB",
        "largest error",
        "largest step",
        f"samples above {AUDIBLE_DB:g} dB",
        *(f"{start} to {stop} ms" for start, stop in pairwise(TABLE_EDGES_MS)),
    )
    print(_row(header))
    print("|---" * len(header) + "|")


def _figures(measured: Measured) -> Iterator[str]:
    """The columns of a row, from the RMS error on."""
    error, distance = measured.error, np.abs(measured.distance_ms)
    yield f"{_decibels(error):.1f}"
    yield f"{measured.level * np.abs(error).max():.2g}"
    yield f"{measured.level * np.abs(np.diff(error)).max():.2g}"
    yield f"{np.mean(np.abs(error) > 10 ** (AUDIBLE_DB / 20)):.2%}"
    for start, stop in pairwise(TABLE_EDGES_MS):
        yield f"{_decibels(error[(distance >= start) & (distance < stop)]):.1f}"


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _draw(measured: list[Measured], path: Path) -> None:
    """A panel for each model, a line for each setting: both clips together."""
    from matplotlib import pyplot

    models = list(dict.fromkeys(one.model for one in measured))
    settings = list(dict.fromkeys(one.setting for one in measured))
    figure, panels = pyplot.subplots(
        1, len(models), figsize=(5 * len(models), 3.6), sharey=True, squeeze=False
    )
    for panel, model in zip(panels[0], models, strict=True):
        for setting in settings:
            clips = [one for one in measured if (one.model, one.setting) == (model, setting)]
            panel.plot(*_profile(clips), label=setting.name, linewidth=1.2)
        panel.set_title(model)
        panel.set_xlabel("distance from the border of two chunks (ms)")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("RMS error (dB of the audio's RMS)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", ncols=len(models) + 1, frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0.14, 1, 1))
    figure.savefig(path, dpi=100)


def _profile(clips: list[Measured]) -> tuple[np.ndarray, np.ndarray]:
    """(distance in ms, error in dB), both [n]: of all clips, averaged over all borders."""
    edges = np.arange(-PICTURE_REACH_MS, PICTURE_REACH_MS + 1, PICTURE_STEP_MS)
    error = np.concatenate([one.error for one in clips])
    distance = np.concatenate([one.distance_ms for one in clips])
    total, _ = np.histogram(distance, edges, weights=error**2)
    count, _ = np.histogram(distance, edges)
    level = 10 * np.log10(total / np.maximum(count, 1) + 1e-30)
    return (edges[:-1] + edges[1:]) / 2, np.maximum(level, SILENT_DB)


def _clips(sampling_rate: int, seconds: float) -> dict[str, np.ndarray]:
    """Speech, said again until it is long enough, and music: float32 [T] each."""
    num_samples = int(seconds * sampling_rate)
    spoken, rate = soundfile.read(ROOT / "tests/assets/speech.flac", dtype="float32")
    speech = np.resize(soxr.resample(spoken, rate, sampling_rate), num_samples)
    return {"speech": speech, "music": _music(sampling_rate, num_samples)}


def _music(sampling_rate: int, num_samples: int) -> np.ndarray:
    """Chords, an arpeggio of their notes and a snare, float32 [T], peak 0.8. Always the same."""
    beat = int(0.46 * sampling_rate)  # not a part of a second: chunks begin anywhere in a beat
    generator = np.random.default_rng(0)
    chords = ((57, 60, 64), (53, 57, 60), (48, 52, 55), (55, 59, 62))
    mix = np.zeros(num_samples + 4 * beat)
    for index, start in enumerate(range(0, num_samples, beat)):
        chord = chords[index // 4 % len(chords)]
        if index % 4 == 0:
            for note in chord:
                mix[start : start + 4 * beat] += 0.3 * _pluck(note, 4 * beat, sampling_rate, 1.0)
        for half, note in enumerate((chord[index % 3], chord[(index + 2) % 3] + 12)):
            begin = start + half * (beat // 2)
            mix[begin : begin + beat] += 0.4 * _pluck(note + 12, beat, sampling_rate, 5.0)
        if index % 2:
            time = np.arange(beat) / sampling_rate
            mix[start : start + beat] += 0.3 * generator.standard_normal(beat) * np.exp(-25 * time)
    mix = mix[:num_samples]
    return (0.8 * mix / np.abs(mix).max()).astype(np.float32)


def _pluck(note: int, num_samples: int, sampling_rate: int, decay: float) -> np.ndarray:
    """A string, float64 [T]: harmonics falling as 1/n, the higher the sooner gone."""
    time = np.arange(num_samples) / sampling_rate
    pitch = 440.0 * 2 ** ((note - 69) / 12)
    harmonics = [n for n in range(1, 13) if n * pitch < sampling_rate / 2]
    tone = sum(
        np.sin(2 * np.pi * n * pitch * time) * np.exp(-decay * n * time) / n for n in harmonics
    )
    return tone * np.minimum(1, time / 0.004)


def _write_checkpoint(preset: str, folder: Path) -> Path:
    """Full-size random weights, as a folder of transformers."""
    from tests.reference import checkpoints, encodec_checkpoints, encodec_variants, variants

    if preset_config(preset).model_type == "encodec":
        weights = encodec_checkpoints.make_weights(encodec_variants.ENCODEC_VARIANTS[preset])
        return encodec_checkpoints.write_transformers_folder(weights, folder)
    weights = checkpoints.make_weights(variants.VARIANTS[preset.removeprefix("dac_")])
    return checkpoints.write_transformers_folder(weights, folder)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presets", nargs="+", default=["dac_44khz", "encodec_24khz"])
    parser.add_argument("--model", help="folder or Hub id of real weights, instead of presets")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--chunk-length-s", type=float, default=1.0)
    parser.add_argument("--fade-shares", type=int, nargs="+", help="instead of modes; 0: no fade")
    parser.add_argument("--overlap", type=float, default=0.1, help="for --fade-shares")
    parser.add_argument("--picture", type=Path, help="draw the errors around borders to this file")
    options = parser.parse_args()
    if options.seconds <= options.chunk_length_s:
        parser.error(f"--seconds {options.seconds:g} is one chunk: there is no border")
    return options


if __name__ == "__main__":
    main()
