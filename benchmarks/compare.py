"""Time codax beside the torch implementations: one run, one machine, the same random weights.

    python benchmarks/compare.py                       # 1, 10 and 60 s of 44.1 kHz audio
    python benchmarks/compare.py --preset encodec_24khz --seconds 10 --repeats 9 --json result.json
    python benchmarks/compare.py --seconds 10 --batch 8 --systems codax "codax bf16" "torch bf16"
    python benchmarks/compare.py --seconds 10 --initial   # weights as transformers initialises them

Each system lives in a process of its own, so that peak memory is its own and no thread pool
disturbs another. Repetitions are interleaved (A B C, A B C, ...), so that a machine whose speed
drifts treats all alike; the median counts. Ratios are against codax: above 1, codax is faster.

Beside the times stand the share of the machine's rate of float32 matrix products that the
convolutions would have if they took all products that their definition names, and, of DAC, how many
codes are those of transformers' float32 model and how far below its decoded audio the difference
lies. ONNX Runtime wants `pip install onnx onnxruntime`, torch.compile a C++ compiler; a system that
cannot be had is named and left out.
"""

import argparse
import json
import math
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.systems import SYSTEMS

REFERENCE = "transformers (torch)"
SETTLE_S = 0.5  # threads of the system before spin for some 0.2 s after their work is done


def main() -> None:
    options = _parse()
    print(f"{platform.processor() or platform.machine()}, {multiprocessing.cpu_count()} cores")
    rate = products_per_second()
    print(f"{rate / 1e9:.0f} GFLOP/s, matrix products in float32")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = _write_checkpoint(options.preset, Path(folder), options.initial)
        rows = [
            row
            for seconds in options.seconds
            for row in _compare(options.preset, checkpoint, seconds, rate, options)
        ]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def _compare(
    preset: str, checkpoint: tuple[str, str], seconds: float, rate: float, options
) -> list[dict]:
    from codax.configuration import preset_config

    config = preset_config(preset)
    num_frames = max(1, round(seconds * config.sampling_rate / config.hop_length))
    shape = (options.batch, config.audio_channels, num_frames * config.hop_length)
    samples = (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)

    family = SYSTEMS[config.model_type]
    chosen = [name for name in options.systems or family if name in family]
    workers = {name: Worker(config.model_type, name, *checkpoint) for name in chosen}
    rows, codes = [], None
    for direction in ("encode", "decode"):
        measured, results = {name: [] for name in workers}, {}
        for name, worker in list(workers.items()):
            given = (samples, codes) if direction == "decode" else (samples, None)
            try:
                results[name] = worker.warm_up(direction, *given)
            except (RuntimeError, EOFError) as error:  # EOFError: its process was killed
                print(f"{name}: left out: {error}")
                workers.pop(name).stop()
                measured.pop(name)
        if direction == "encode":
            codes = results.get(REFERENCE)
        begun = time.perf_counter()
        for turn in range(options.repeats):
            if turn and time.perf_counter() - begun > options.limit_s:
                break
            for name, worker in workers.items():
                time.sleep(SETTLE_S)
                measured[name].append(worker.measure())
        products = options.batch * num_products(config, direction, num_frames)
        expected = None if codes is None else results.get(REFERENCE)
        for name, runs in measured.items():
            row = {"preset": preset, "audio_s": seconds, "batch": options.batch}
            row |= {"direction": direction, "system": name} | _times(name, measured)
            median_s = statistics.median(time_s for time_s, _ in runs)
            row["real_time_factor"] = round(options.batch * seconds / median_s, 2)
            row["share_of_product_rate"] = round(products / median_s / rate, 3)
            row |= _exactness(direction, results[name], expected)
            rows.append(row)
            _tell(row)
    for worker in workers.values():
        worker.stop()
    return rows


def _times(name: str, measured: dict[str, list]) -> dict[str, Any]:
    times = {name: [time_s for time_s, _ in runs] for name, runs in measured.items()}
    base = statistics.median(times["codax"]) if "codax" in times else None
    median = statistics.median(times[name])
    return {
        "median_s": round(median, 4),
        "min_s": round(min(times[name]), 4),
        "max_s": round(max(times[name]), 4),
        "peak_memory_mb": round(max(memory for _, memory in measured[name])),
        "time_over_codax": round(median / base, 2) if base else None,
    }


def _tell(row: dict) -> None:
    line = (
        f"{row['audio_s']:4g} s {row['direction']}  {row['system']:21} {row['median_s']:8.3f} s "
        f"({row['min_s']:.3f} to {row['max_s']:.3f})  {row['real_time_factor']:6.2f} x real time  "
        f"{row['peak_memory_mb']:6.0f} MB peak  {row['time_over_codax']} x codax's time  "
        f"{row['share_of_product_rate']:.0%} of the rate"
    )
    if "same_codes" in row:
        line += f"  {row['same_codes']:.2%} of codes the same"
    if "snr_db" in row:
        line += f"  SNR {row['snr_db']} dB"
    print(line, flush=True)


def _exactness(direction: str, result: Any, expected: Any) -> dict[str, Any]:
    """Beside the reference: the share of codes, or dB, where all have the same codes to decode."""
    if expected is None or result is None or result is expected:
        return {}
    if direction == "encode":
        return {"same_codes": float(np.mean(result == expected))}
    length = min(result.shape[-1], expected.shape[-1])
    result, expected = (one[..., :length].reshape(len(one), -1) for one in (result, expected))
    noise = np.sum(np.square(result - expected, dtype=np.float64))
    signal = np.sum(np.square(expected, dtype=np.float64))
    return {"snr_db": round(10 * math.log10(signal / max(noise, 1e-30)), 1)}


def products_per_second() -> float:
    """FLOP/s of matrix products in float32, of two thousand rows and columns, by XLA."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_products_per_second)


def _products_per_second() -> float:
    import jax

    size = 2048
    matrix = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda one: one @ one)
    product(matrix).block_until_ready()
    times = []
    for _ in range(20):
        started = time.perf_counter()
        product(matrix).block_until_ready()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times)


def num_products(config: Any, direction: str, num_frames: int) -> int:
    """FLOP of a network's convolutions, those of its LSTM too, for so many frames."""
    from codax.configuration.conv_geometry import Conv, Lstm, named_layers

    length = num_frames * (config.hop_length if direction == "encode" else 1)
    total = 0
    for _, layer in named_layers(getattr(config.architecture, f"{direction}r")):
        if isinstance(layer, Lstm):
            total += 2 * 8 * layer.num_layers * layer.size**2 * length
        elif isinstance(layer, Conv):
            taps = layer.kernel_size * layer.in_channels * layer.out_channels
            if layer.transposed:
                total += 2 * taps * length
                length *= layer.stride
            else:
                length //= layer.stride
                total += 2 * taps * length
    return total


class Worker:
    """One system in a process of its own, doing one operation at a time."""

    def __init__(self, family: str, name: str, folder: str, original: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, family, name, folder, original), daemon=True
        )
        self._process.start()

    def warm_up(self, direction: str, samples: np.ndarray, codes: Any) -> Any:
        """Run once for this input, so that all is compiled for it -> what comes out, if an array.

        codes: to decode, or None for its own. Raises `RuntimeError` where it cannot be run.
        """
        return self._ask((direction, samples, codes))

    def measure(self) -> tuple[float, float]:
        """(seconds, peak memory in MB) of one more run on the same input."""
        return self._ask("measure")

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()

    def _ask(self, request):
        self._pipe.send(request)
        answer = self._pipe.recv()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer


def _serve(pipe, family: str, name: str, folder: str, original: str) -> None:
    encode = decode = operation = argument = None
    while (request := pipe.recv()) is not None:
        if isinstance(request, tuple):
            direction, samples, codes = request
            try:
                if encode is None:
                    encode, decode = SYSTEMS[family][name](folder, original)
                operation, argument = encode, samples
                if direction == "decode":
                    operation, argument = decode, encode(samples) if codes is None else codes
                result = operation(argument)
            except Exception as error:  # whatever a system that is not codax may raise
                pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
            else:
                pipe.send(result if isinstance(result, np.ndarray) else None)
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
            started = time.perf_counter()
            operation(argument)
            pipe.send((time.perf_counter() - started, peak_memory_mb()))


def peak_memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _write_checkpoint(preset: str, folder: Path, initial: bool) -> tuple[str, str]:
    """Full-size random weights, as a folder of transformers and as the authors' file.

    Those of the parity tests, which make the most of every difference, or, of DAC, `initial` ones.
    """
    if preset.startswith("encodec"):
        from tests.reference import encodec_checkpoints, encodec_variants

        weights = encodec_checkpoints.make_weights(encodec_variants.ENCODEC_VARIANTS[preset])
        encodec_checkpoints.write_transformers_folder(weights, folder / "transformers")
        encodec_checkpoints.write_original_file(weights, folder / f"{preset}.th")
        return str(folder / "transformers"), str(folder / f"{preset}.th")
    from tests.reference import checkpoints, variants

    make_weights = checkpoints.make_initial_weights if initial else checkpoints.make_weights
    weights = make_weights(variants.VARIANTS[preset.removeprefix("dac_")])
    checkpoints.write_transformers_folder(weights, folder / "transformers")
    checkpoints.write_descript_file(weights, folder / "weights.pth")
    return str(folder / "transformers"), str(folder / "weights.pth")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dac_44khz")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--batch", type=int, default=1, help="clips at once")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--initial", action="store_true", help="of DAC: as transformers initialises it"
    )
    parser.add_argument(
        "--limit-s",
        type=float,
        default=600.0,
        help="seconds after which no repetition of a length and direction begins but the first",
    )
    names = dict.fromkeys(name for family in SYSTEMS.values() for name in family)
    parser.add_argument("--systems", nargs="+", choices=names, help="default: all of the family")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.initial and not options.preset.startswith("dac"):
        parser.error("--initial is for DAC")
    return options


if __name__ == "__main__":
    main()
