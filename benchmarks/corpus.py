"""What a corpus job costs beside the network's own work, and whether its memory grows.

    python benchmarks/corpus.py overhead --preset dac_44khz --minutes 10
    python benchmarks/corpus.py memory --preset encodec_24khz --minutes 5 60

`overhead` encodes clips of 2 to 30 s at several rates, mono and stereo, WAV and FLAC, into shards,
as `codax tokenize` does, in a process that has compiled its programs; then runs the batches that
went through the network once more, one after the other, and nothing else: pure compute. The two
alternate, --repeat times; told are the medians, and all times. The overhead is what the job took
longer. Filled up is the part of what was computed that no clip has.
`memory` runs `codax tokenize` over as much audio, each in a process of its own. Models have
full-size random weights, or those of --model FOLDER; --narrow N divides their widths by N.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.long_audio import run_command, write_model

RATES = (16000, 22050, 24000, 44100)
SHORTEST_S, LONGEST_S = 2.0, 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("overhead", "memory"))
    parser.add_argument("--preset", default="encodec_24khz")
    parser.add_argument("--model", help="folder of a model, instead of random weights")
    parser.add_argument("--narrow", type=int, default=1)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or write_model(Path(folder, "model"), options)
        for minutes in options.minutes:
            corpus = Path(folder, f"corpus-{minutes:g}")
            count, seconds = _write_corpus(corpus, 60 * minutes)
            print(f"{options.preset}: {count} clips, {seconds / 60:.1f} min", flush=True)
            if options.what == "memory":
                output = str(Path(folder, f"tokens-{minutes:g}"))
                arguments = ("tokenize", str(corpus), "--output", output, "--model", model)
                peak_mb, elapsed = run_command(*arguments)
                print(f"  {elapsed:.0f} s, peak {peak_mb:.0f} MB", flush=True)
            else:
                _measure_overhead(model, corpus, Path(folder), seconds, options.repeat)


def _write_corpus(folder: Path, seconds: float) -> tuple[int, float]:
    """-> the number of clips and their seconds of audio, in all channels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    count = total = 0
    while total < seconds:
        rate, channels = int(random.choice(RATES)), int(random.integers(1, 3))
        length_s = float(np.exp(random.uniform(np.log(SHORTEST_S), np.log(LONGEST_S))))
        samples = 0.1 * random.standard_normal((round(length_s * rate), channels))
        suffix = ("wav", "flac")[count % 2]
        soundfile.write(folder / f"{count:05}.{suffix}", samples, rate)
        count, total = count + 1, total + channels * length_s
    return count, total


def _measure_overhead(model: str, corpus: Path, folder: Path, seconds: float, repeat: int) -> None:
    from codax.codec import batches
    from codax.corpus import EncodeAudio
    from codax.corpus.job import TokenizeJob
    from codax.corpus.sources import open_corpus

    encode = EncodeAudio(model)
    codec = encode.named.codec()
    done: list[tuple] = []
    parts: list[int] = []
    started = batches.Batches._started

    def recorded(self, rows):
        parts.append(sum(row.part.frames for row in rows))
        network = self._network

        def run(*arrays):
            done.append((network, arrays))
            return network(*arrays)

        self._network = run
        try:
            return started(self, rows)
        finally:
            self._network = network

    batches.Batches._started = recorded
    began = time.perf_counter()
    TokenizeJob(open_corpus(corpus), encode, folder / "warm").run()
    first = time.perf_counter() - began
    batches.Batches._started = started

    def job() -> float:
        began = time.perf_counter()
        TokenizeJob(open_corpus(corpus), encode, folder / f"tokens-{began}").run()
        return time.perf_counter() - began

    def pure() -> float:
        began = time.perf_counter()
        for network, arrays in done:
            for output in network(*arrays):
                if output is not None:
                    output.block_until_ready()
        return time.perf_counter() - began

    pairs = [(job(), pure()) for _ in range(repeat)]
    measured, computed = map(median, zip(*pairs, strict=True))
    frames = sum(arrays[0].shape[-1] * len(arrays[0]) for _, arrays in done)
    filled = 1 - sum(parts) * codec.config.hop_length / frames
    print(
        f"  first run, with {len({arrays[0].shape for _, arrays in done})} programs to compile: "
        f"{first:.1f} s\n"
        f"  job {measured:.1f} s, {seconds / measured:.2f}x real time; pure compute "
        f"{computed:.1f} s; overhead {100 * (measured / computed - 1):.1f} %; "
        f"filled up {100 * filled:.1f} %\n"
        f"  all (job, pure): {', '.join(f'{one:.1f}, {other:.1f}' for one, other in pairs)} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
