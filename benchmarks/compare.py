"""Time codax beside the torch implementations: one run, one machine, the same random weights.

    python benchmarks/compare.py                       # 1, 10 and 60 s of 44.1 kHz audio
    python benchmarks/compare.py --preset encodec_24khz --seconds 10 --repeats 9 --json result.json

Each system lives in a process of its own, so that peak memory is its own and no thread pool
disturbs another. Repetitions are interleaved (A B C, A B C, ...), so that a machine whose speed
drifts treats all alike; the median counts. Ratios are against codax: above 1, codax is faster.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.systems import SYSTEMS

SETTLE_S = 0.5  # threads of the system before spin for some 0.2 s after their work is done


def main() -> None:
    options = _parse()
    print(f"{platform.processor() or platform.machine()}, {multiprocessing.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _write_checkpoint(options.preset, Path(folder))
        rows = [
            row
            for seconds in options.seconds
            for row in _compare(options.preset, checkpoint, seconds, options)
        ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _compare(preset: str, checkpoint: tuple[str, str], seconds: float, options) -> list[dict]:
    from codax.configuration import preset_config

    config = preset_config(preset)
    num_frames = max(1, round(seconds * config.sampling_rate / config.hop_length))
    shape = (1, config.audio_channels, num_frames * config.hop_length)
    samples = (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)

    family = SYSTEMS[config.model_type]
    chosen = [name for name in options.systems or family if name in family]
    workers = {name: Worker(config.model_type, name, *checkpoint) for name in chosen}
    rows = []
    for direction in ("encode", "decode"):
        measured = {name: [] for name in workers}
        for worker in workers.values():
            worker.warm_up(direction, samples)
        begun = time.perf_counter()
        for turn in range(options.repeats):
            if turn and time.perf_counter() - begun > options.limit_s:
                break
            for name, worker in workers.items():
                time.sleep(SETTLE_S)
                measured[name].append(worker.measure())
        rows += _rows(seconds, direction, measured)
    for worker in workers.values():
        worker.stop()
    return rows


def _rows(seconds: float, direction: str, measured: dict[str, list]) -> list[dict]:
    times = {name: [time_s for time_s, _ in runs] for name, runs in measured.items()}
    base = statistics.median(times["codax"]) if "codax" in times else None
    rows = []
    for name, runs in measured.items():
        median, peak = statistics.median(times[name]), max(memory for _, memory in runs)
        row = {
            "audio_s": seconds,
            "direction": direction,
            "system": name,
            "median_s": round(median, 4),
            "min_s": round(min(times[name]), 4),
            "max_s": round(max(times[name]), 4),
            "real_time_factor": round(seconds / median, 2),
            "peak_memory_mb": round(peak),
            "time_over_codax": round(median / base, 2) if base else None,
        }
        rows.append(row)
        print(
            f"{seconds:4g} s {direction}  {name:21} {median:8.3f} s "
            f"({row['min_s']:.3f} to {row['max_s']:.3f})  {seconds / median:6.2f} x real time  "
            f"{peak:6.0f} MB peak  {row['time_over_codax']} x codax's time",
            flush=True,
        )
    return rows


class Worker:
    """One system in a process of its own, doing one operation at a time."""

    def __init__(self, family: str, name: str, folder: str, original: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, family, name, folder, original), daemon=True
        )
        self._process.start()
        self._pipe.recv()  # loaded

    def warm_up(self, direction: str, samples: np.ndarray) -> None:
        """Run once for this input, so that all is compiled for it; decoding takes its own codes."""
        self._ask((direction, samples))

    def measure(self) -> tuple[float, float]:
        """(seconds, peak memory in MB) of one more run on the same input."""
        return self._ask("measure")

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()

    def _ask(self, request):
        self._pipe.send(request)
        return self._pipe.recv()


def _serve(pipe, family: str, name: str, folder: str, original: str) -> None:
    encode, decode = SYSTEMS[family][name](folder, original)
    pipe.send("loaded")
    operation = argument = None
    while (request := pipe.recv()) is not None:
        if isinstance(request, tuple):
            direction, samples = request
            operation, argument = encode, samples
            if direction == "decode":
                operation, argument = decode, encode(samples)
            operation(argument)
            pipe.send("warm")
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            started = time.perf_counter()
            operation(argument)
            pipe.send((time.perf_counter() - started, peak_memory_mb()))


def peak_memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _write_checkpoint(preset: str, folder: Path) -> tuple[str, str]:
    """Full-size random weights, as a folder of transformers and as the authors' file."""
    if preset.startswith("encodec"):
        from tests.reference import encodec_checkpoints, encodec_variants

        weights = encodec_checkpoints.make_weights(encodec_variants.ENCODEC_VARIANTS[preset])
        encodec_checkpoints.write_transformers_folder(weights, folder / "transformers")
        encodec_checkpoints.write_original_file(weights, folder / f"{preset}.th")
        return str(folder / "transformers"), str(folder / f"{preset}.th")
    from tests.reference import checkpoints, variants

    weights = checkpoints.make_weights(variants.VARIANTS[preset.removeprefix("dac_")])
    checkpoints.write_transformers_folder(weights, folder / "transformers")
    checkpoints.write_descript_file(weights, folder / "weights.pth")
    return str(folder / "transformers"), str(folder / "weights.pth")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dac_44khz")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--limit-s",
        type=float,
        default=600.0,
        help="seconds after which no repetition of a length and direction begins but the first",
    )
    names = dict.fromkeys(name for family in SYSTEMS.values() for name in family)
    parser.add_argument("--systems", nargs="+", choices=names, help="default: all of the family")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
