"""What an evaluation found: as a table, as JSON, as pictures."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codax.evaluation.codebooks import CodebookUse
from codax.evaluation.pictures import require_matplotlib

LABELS = {
    "mel": "mel",
    "stft": "STFT",
    "waveform": "L1",
    "si_sdr": "SI-SDR (dB)",
    "si_snr": "SI-SNR (dB)",
    "visqol": "ViSQOL",
    "stoi": "STOI",
}
"""Of the metrics, in the order of the table's columns."""

_DIGITS = {"waveform": 4, "stoi": 3}


@dataclass(frozen=True)
class Step:
    """One bitrate of one codec, over all clips.

    codec: the model's name, or "Opus"
    codebooks: of the model; None for Opus
    kbps: measured, of all channels of a clip: codes (and scales of EnCodec at 48 kHz) without a
        container, all clips' bits over all clips' seconds
    metrics: mean over the clips by name, None where no clip has a value
    left_out: how many clips have no finite value, by name; those that have some are not listed
    use: of the codebooks; None for Opus
    entropy_kbps: what the codes would take if each codebook's were coded by its entropy
    """

    codec: str
    codebooks: int | None
    kbps: float
    metrics: dict[str, float | None]
    left_out: dict[str, int] = field(default_factory=dict)
    use: CodebookUse | None = None
    entropy_kbps: float | None = None


@dataclass(frozen=True)
class Report:
    """An evaluation.

    model: its name, or None; sampling_rate: Hz, at which everything was measured
    clips: how many were measured; seconds: of them all
    visqol: its mode, or None; opus: what encoded it, or None
    skipped: (name, reason) of clips that could not be measured
    steps: the model's, from few codebooks to many, then Opus's
    """

    model: str | None
    sampling_rate: int
    clips: int
    seconds: float
    steps: tuple[Step, ...]
    visqol: str | None = None
    opus: str | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def to_markdown(self) -> str:
        """Give a table with a line for each step, and below it what one must know to read it."""
        names = [name for name in LABELS if name in self.steps[0].metrics]
        header = ["codec", "codebooks", "kbps", *(LABELS[name] for name in names)]
        header += ["used", "entropy (kbps)", "efficiency"]
        lines = [_row(header), _row(["---", *["---:"] * (len(header) - 1)])]
        lines += [_row(_cells(step, names)) for step in self.steps]
        return "\n".join([*lines, "", *self._notes(), ""])

    def to_json(self) -> str:
        """Give everything as a JSON object with the names of these fields."""
        return json.dumps(asdict(self), indent=2)

    def save_plots(self, folder: str | os.PathLike) -> list[Path]:
        """Draw every metric over the bitrate, one PNG file each -> their paths.

        Raises `CodaxError` where matplotlib is missing.
        """
        figure_class = require_matplotlib("eval")
        Path(folder).mkdir(parents=True, exist_ok=True)
        names = [name for name in LABELS if name in self.steps[0].metrics]
        return [self._plot(figure_class, name, Path(folder, f"{name}.png")) for name in names]

    def _notes(self) -> list[str]:
        notes = [f"{self.clips} clips, {self.seconds:.1f} s, measured at {self.sampling_rate} Hz."]
        if self.visqol is not None:
            notes.append(f"ViSQOL in its {self.visqol} mode.")
        if self.opus is not None:
            notes.append(f"Opus by {self.opus}.")
        left_out: dict[str, int] = {}
        for step in self.steps:
            for name, count in step.left_out.items():
                left_out[name] = max(left_out.get(name, 0), count)
        notes += [
            f"{LABELS[name]}: without up to {count} clips that have no value."
            for name, count in left_out.items()
        ]
        if self.skipped:
            notes.append(f"{len(self.skipped)} clips were skipped.")
        return [" ".join(notes)]

    def _plot(self, figure_class: Any, name: str, path: Path) -> Path:
        figure = figure_class(figsize=(6, 4), dpi=100, layout="constrained")
        axes = figure.subplots()
        for codec in dict.fromkeys(step.codec for step in self.steps):
            points = [
                (step.kbps, value)
                for step in self.steps
                if step.codec == codec and (value := step.metrics[name]) is not None
            ]
            axes.plot(*zip(*sorted(points), strict=True) if points else ((), ()), "o-", label=codec)
        axes.set(xlabel="kbps", ylabel=LABELS[name])
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path)
        return path


def _cells(step: Step, names: list[str]) -> list[str]:
    cells = [step.codec, "" if step.codebooks is None else str(step.codebooks), f"{step.kbps:.2f}"]
    for name in names:
        value = step.metrics[name]
        cells.append("" if value is None else f"{value:.{_DIGITS.get(name, 2)}f}")
    if step.use is None or step.entropy_kbps is None:
        return [*cells, "", "", ""]
    used = sum(step.use.used) / len(step.use.used)
    return [*cells, f"{used:.1%}", f"{step.entropy_kbps:.2f}", f"{step.use.efficiency:.1%}"]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
