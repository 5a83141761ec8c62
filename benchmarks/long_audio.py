"""Peak memory and time of coding long audio by the command line, and the cost of chunks.

    python benchmarks/long_audio.py memory --preset encodec_24khz --seconds 10 600 3600
    python benchmarks/long_audio.py memory --preset dac_44khz --narrow 8 --seconds 10 600 3600
    python benchmarks/long_audio.py chunks --preset dac_44khz --chunks 1 5 10 --seconds 40

`memory` encodes and decodes 44.1 kHz audio of each length, file to file, each in a process of its
own. `chunks` encodes and decodes clips of each length in chunks of each length, exactly, and 10 s
in one piece, in one process, repetitions interleaved; throughput is audio over time. Models have
full-size random weights, or those of --model FOLDER; --narrow N divides their widths by N, where
hours of full-size computing are not to be had: memory then shows what grows with the length all the
same.
"""

import argparse
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

FILE_RATE = 44100
ONE_PIECE_S = 10.0
WIDTHS = {
    "dac": ("encoder_hidden_size", "decoder_hidden_size"),
    "encodec": ("num_filters", "hidden_size"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("memory", "chunks"))
    parser.add_argument("--preset", default="encodec_24khz")
    parser.add_argument("--model", help="folder of a model, instead of random weights")
    parser.add_argument("--narrow", type=int, default=1)
    parser.add_argument("--seconds", type=float, nargs="+", default=[10, 600])
    parser.add_argument("--chunks", type=float, nargs="+", default=[0.5, 1, 2, 5])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or write_model(Path(folder, "model"), options)
        if options.what == "memory":
            _measure_memory(model, Path(folder), options)
        else:
            _measure_chunks(model, options)


def write_model(folder: Path, options: argparse.Namespace) -> str:
    """In a process of its own, whose memory counts for nothing."""
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from benchmarks.long_audio import write_random_model
write_random_model({str(folder)!r}, {options.preset!r}, {options.narrow})
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    return str(folder)


def write_random_model(folder: str, preset: str, narrow: int) -> None:
    from codax.configuration import preset_config
    from codax.feature_extraction import EXTRACTORS
    from codax.modeling import FlaxDacModel, FlaxEncodecModel

    config = preset_config(preset)
    fields = {name: getattr(config, name) // narrow for name in WIDTHS[config.model_type]}
    config = type(config)(**{**type(config).presets[preset], **fields})
    model_class = FlaxDacModel if config.model_type == "dac" else FlaxEncodecModel
    model_class(config).save_pretrained(folder)
    EXTRACTORS[config.model_type].from_config(config).save_pretrained(folder)


def _measure_memory(model: str, folder: Path, options: argparse.Namespace) -> None:
    print("| audio | encode: peak MB, s | decode: peak MB, s |")
    print("|---|---|---|")
    for seconds in options.seconds:
        source, coded, result = folder / "in.flac", folder / "in.codax", folder / "out.wav"
        _write_audio(source, seconds)
        coding = [
            run_command("encode", source, "--model", model, "-o", coded, "--overwrite"),
            run_command("decode", coded, "-o", result, "--overwrite"),
        ]
        cells = " | ".join(f"{memory_mb:.0f}, {time_s:.1f}" for memory_mb, time_s in coding)
        print(f"| {seconds:g} s | {cells} |", flush=True)


def run_command(*arguments) -> tuple[float, float]:
    """Peak memory in MB and wall time of one `codax` command."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "codax", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_maxrss / 1e3, time.perf_counter() - start


def _write_audio(path: Path, seconds: float) -> None:
    """Chords with noise, block by block."""
    import soundfile

    generator = np.random.default_rng(0)
    block = 10 * FILE_RATE
    with soundfile.SoundFile(path, "w", FILE_RATE, 1) as file:
        for start in range(0, round(seconds * FILE_RATE), block):
            times = np.arange(start, min(start + block, round(seconds * FILE_RATE))) / FILE_RATE
            tones = sum(np.sin(2 * np.pi * pitch * times) for pitch in (220, 277.2, 329.6))
            file.write(0.1 * tones + 0.02 * generator.standard_normal(len(times)))


def _measure_chunks(folder: str, options: argparse.Namespace) -> None:
    import jax

    from codax import AudioCodec
    from codax.modeling import pretrained_base

    model = AudioCodec.from_pretrained(folder).model
    config = model.config
    channels = config.audio_channels
    hop, rate = config.hop_length, config.sampling_rate

    def noise(seconds: float) -> np.ndarray:
        shape = (1, channels, round(seconds * rate) // hop * hop)
        return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)

    clips = {seconds: noise(seconds) for seconds in (ONE_PIECE_S, *options.seconds)}
    encoded = {seconds: model.encode(clip, chunk_length_s=5.0) for seconds, clip in clips.items()}

    def encode(seconds: float, length_s: float) -> None:
        np.asarray(model.encode(clips[seconds], chunk_length_s=length_s).audio_codes)

    def decode(seconds: float, length_s: float) -> None:
        coded = encoded[seconds]
        scales = {"audio_scales": coded.audio_scales} if "audio_scales" in coded else {}
        settings = {"chunk_length_s": length_s, "chunk_mode": "exact"}
        np.asarray(model.decode(audio_codes=coded.audio_codes, **scales, **settings).audio_values)

    programs = (pretrained_base._run, pretrained_base._run_carrying)
    in_chunks = itertools.product(options.seconds, options.chunks)
    cases = [(ONE_PIECE_S, 0.0), *in_chunks]
    times: dict = {(act, *case): [] for act in (encode, decode) for case in cases}
    compiled = {}
    jax.clear_caches()
    for act, *case in times:
        before = sum(program._cache_size() for program in programs)
        act(*case)
        compiled[act, *case] = sum(program._cache_size() for program in programs) - before
    for _ in range(options.repeats):
        for (act, *case), measured in times.items():
            start = time.perf_counter()
            act(*case)
            measured.append(time.perf_counter() - start)
    print("| direction | audio | chunk | median s (range) | throughput, of one piece | programs |")
    print("|---|---|---|---|---|---|")
    for (act, seconds, length), measured in times.items():
        median = statistics.median(measured)
        whole = statistics.median(times[act, ONE_PIECE_S, 0.0])
        share = (seconds / median) / (ONE_PIECE_S / whole)
        chunk = f"{length:g} s" if length else "one piece"
        spread = f"{median:.2f} ({min(measured):.2f} to {max(measured):.2f})"
        row = act.__name__, f"{seconds:g} s", chunk, spread, f"{share:.0%}"
        print(f"| {' | '.join(row)} | {compiled[act, seconds, length]} |")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak memory of the process: {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
