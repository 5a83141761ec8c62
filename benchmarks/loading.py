"""Time and memory of loading a model, beside those of reading its weight file and no more.

    python benchmarks/loading.py

Every measurement is the only one of its process, imports done before. Reading is safetensors' own
`load_file` into NumPy arrays; loading is `FlaxDacModel.from_pretrained` up to weights on the
device. The file is in the system's cache for both.
"""

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

REPEATS = 5


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run_alone(_write_checkpoint, folder)
        size_mb = Path(folder, "model.safetensors").stat().st_size / 1e6
        measured = {"read": [], "load": []}
        for _ in range(REPEATS):
            for name, operation in (("read", _read), ("load", _load)):
                measured[name].append(_run_alone(operation, folder))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in measured.items()
    }
    print(f"model.safetensors: {size_mb:.0f} MB; medians of {REPEATS}")
    for name, (seconds, memory_mb) in medians.items():
        print(f"{name}  {seconds:.3f} s  {memory_mb:.0f} MB more at the peak")
    time_ratio, memory_ratio = (
        load / read for load, read in zip(medians["load"], medians["read"], strict=True)
    )
    print(f"load / read: {time_ratio:.2f} x the time, {memory_ratio:.2f} x the memory")


def _run_alone(operation, folder: str):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(operation, (folder,))


def _write_checkpoint(folder: str) -> None:
    from codax import DacConfig, FlaxDacModel

    FlaxDacModel(DacConfig.preset("dac_44khz")).save_pretrained(folder)


def _read(folder: str) -> tuple[float, float]:
    from safetensors.numpy import load_file

    return _measure(lambda: load_file(Path(folder, "model.safetensors")))


def _load(folder: str) -> tuple[float, float]:
    import jax

    from codax import FlaxDacModel

    jax.block_until_ready(jax.numpy.zeros(()))  # start the device
    return _measure(lambda: jax.block_until_ready(FlaxDacModel.from_pretrained(folder).params))


def _measure(operation) -> tuple[float, float]:
    """(seconds, MB by which the peak memory of the process grew)."""
    before = _peak_mb()
    started = time.perf_counter()
    result = operation()
    seconds = time.perf_counter() - started
    grown = _peak_mb() - before
    del result
    return seconds, grown


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
