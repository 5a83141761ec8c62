"""Peak memory and time of coding long audio by the command line, and the cost of chunks.

    python benchmarks/long_audio.py memory --preset encodec_24khz --seconds 10 600 3600
    python benchmarks/long_audio.py memory --preset dac_44khz --narrow 8 --seconds 10 600 3600
    python benchmarks/long_audio.py chunks --preset dac_44khz --chunks 0.5 1 2 5

`memory` encodes and decodes 44.1 kHz audio of each length, file to file, each in a process of its
own. `chunks` decodes and encodes 10 s in chunks of each length, exactly, and in one piece, in one
process, repetitions interleaved. Models have full-size random weights, or those of --model FOLDER;
--narrow N divides their widths by N, where hours of full-size computing are not to be had: memory
then shows what grows with the length all the same.
"""

import argparse
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
        model = options.model or _write_model(Path(folder, "model"), options)
        if options.what == "memory":
            _measure_memory(model, Path(folder), options)
        else:
            _measure_chunks(model, options)


def _write_model(folder: Path, options: argparse.Namespace) -> str:
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
            _run_command("encode", source, "--model", model, "-o", coded, "--overwrite"),
            _run_command("decode", coded, "-o", result, "--overwrite"),
        ]
        cells = " | ".join(f"{memory_mb:.0f}, {time_s:.1f}" for memory_mb, time_s in coding)
        print(f"| {seconds:g} s | {cells} |", flush=True)


def _run_command(*arguments) -> tuple[float, float]:
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
    from codax import AudioCodec
    from codax.modeling import pretrained_base

    model = AudioCodec.from_pretrained(folder).model
    config = model.config
    channels = getattr(config, "audio_channels", 1)
    samples = 10 * config.sampling_rate // config.hop_length * config.hop_length
    audio = np.random.default_rng(0).normal(0, 0.1, (1, channels, samples)).astype(np.float32)
    encoded = model.encode(audio)
    scales = {"audio_scales": encoded.audio_scales} if "audio_scales" in encoded else {}

    def encode(length_s: float) -> None:
        np.asarray(model.encode(audio, chunk_length_s=length_s).audio_codes)

    def decode(length_s: float) -> None:
        codes = encoded.audio_codes
        settings = {"chunk_length_s": length_s, "chunk_mode": "exact"}
        np.asarray(model.decode(audio_codes=codes, **scales, **settings).audio_values)

    programs = (pretrained_base._run, pretrained_base._run_carrying)
    lengths = [0.0, *options.chunks]
    times: dict = {(act, length): [] for act in (encode, decode) for length in lengths}
    compiled = {}
    for act, length in times:
        before = sum(program._cache_size() for program in programs)
        act(length)
        compiled[act, length] = sum(program._cache_size() for program in programs) - before
    for _ in range(options.repeats):
        for (act, length), measured in times.items():
            start = time.perf_counter()
            act(length)
            measured.append(time.perf_counter() - start)
    print("| direction | chunk | median s (range) | throughput, of one piece | programs |")
    print("|---|---|---|---|---|")
    for (act, length), measured in times.items():
        median = statistics.median(measured)
        share = statistics.median(times[act, 0.0]) / median
        chunk = f"{length:g} s" if length else "one piece"
        spread = f"{median:.2f} ({min(measured):.2f} to {max(measured):.2f})"
        print(f"| {act.__name__} | {chunk} | {spread} | {share:.0%} | {compiled[act, length]} |")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"peak memory of the process: {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
