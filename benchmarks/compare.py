"""Time codax beside the torch implementations: one run, one machine, the same random weights.

    python benchmarks/compare.py                       # 1, 10 and 60 s of 44.1 kHz audio
    python benchmarks/compare.py --seconds 10 --repeats 9 --json result.json

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
    from codax import DacConfig

    config = DacConfig.preset(preset)
    num_frames = max(1, round(seconds * config.frame_rate))
    generator = np.random.default_rng(0)
    samples = 0.1 * generator.standard_normal((1, 1, num_frames * config.hop_length))
    codes = generator.integers(0, config.codebook_size, (1, config.n_codebooks, num_frames))
    inputs = {"encode": samples.astype(np.float32), "decode": codes}

    workers = {name: Worker(name, *checkpoint) for name in options.systems}
    rows = []
    for direction, array in inputs.items():
        measured = {name: [] for name in workers}
        for worker in workers.values():
            worker.warm_up(direction, array)
        for _ in range(options.repeats):
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

    def __init__(self, name: str, folder: str, original: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, name, folder, original), daemon=True
        )
        self._process.start()
        self._pipe.recv()  # loaded

    def warm_up(self, direction: str, array: np.ndarray) -> None:
        """Run once on this input, so that all is compiled for it."""
        self._ask((direction, array))

    def measure(self) -> tuple[float, float]:
        """(seconds, peak memory in MB) of one more run on the same input."""
        return self._ask("measure")

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()

    def _ask(self, request):
        self._pipe.send(request)
        return self._pipe.recv()


def _serve(pipe, name: str, folder: str, original: str) -> None:
    operations = dict(zip(("encode", "decode"), SYSTEMS[name](folder, original), strict=True))
    pipe.send("loaded")
    operation = array = None
    while (request := pipe.recv()) is not None:
        if isinstance(request, tuple):
            operation, array = operations[request[0]], request[1]
            operation(array)
            pipe.send("warm")
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            started = time.perf_counter()
            operation(array)
            pipe.send((time.perf_counter() - started, _peak_memory_mb()))


def _peak_memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _write_checkpoint(preset: str, folder: Path) -> tuple[str, str]:
    """Full-size random weights as transformers and as descript-audio-codec store them."""
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
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
