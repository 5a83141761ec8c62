"""`codax info`: what a compressed file or a model is."""

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from codax.cli import jobs
from codax.cli.models import load_config
from codax.errors import CodaxError

if TYPE_CHECKING:
    from codax.formats import EcdcHeader

ALWAYS = ("input_db",)  # told even where a file has none


def add_to(commands) -> None:
    parser = commands.add_parser("info", help="describe a compressed file or a model")
    parser.add_argument(
        "subject", help="a compressed file, builtin, preset name, Hub id or model folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    path = Path(options.subject)
    is_file = path.suffix.lower() in jobs.CODED_SUFFIXES
    if path.is_file() and not is_file:
        raise CodaxError(
            f"{path}: neither a model folder nor a {', '.join(jobs.CODED_SUFFIXES)} file"
        )
    facts = _facts_of_file(options.subject) if is_file else _facts_of_model(options.subject)
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    width = max(map(len, facts))
    for name, value in facts.items():
        print(
            f"{name:<{width}}  {value:g}"
            if isinstance(value, float)
            else f"{name:<{width}}  {value}"
        )
    return 0


def _facts_of_file(path: str) -> dict:
    from codax.formats import EncodedAudio, read_ecdc_header

    if Path(path).suffix.lower() == ".ecdc" and (header := read_ecdc_header(path)).with_lm:
        return _facts_of_header(path, header)
    encoded = EncodedAudio.load(path)
    num_bytes = Path(path).stat().st_size
    facts = {
        "file": path,
        "duration_s": encoded.duration_s,
        "sampling_rate": encoded.sampling_rate,
        "channels": encoded.channels,
        "codebooks": encoded.num_codebooks,
        "frames": encoded.num_frames,
        "chunks": math.ceil(encoded.num_frames / (encoded.chunk_frames or encoded.num_frames)),
        "segments": None if encoded.segment_frames is None else len(encoded.segment_frames),
        "input_db": encoded.input_db,
        "bytes": num_bytes,
        "file_bitrate": 8 * num_bytes / encoded.duration_s,
        "model": encoded.model,
    }
    return {name: value for name, value in facts.items() if value is not None or name in ALWAYS}


def _facts_of_header(path: str, header: "EcdcHeader") -> dict:
    """Of a file whose codes only its language model could read."""
    num_bytes = Path(path).stat().st_size
    duration_s = header.num_samples / header.model.sampling_rate
    return {
        "file": path,
        "duration_s": duration_s,
        "sampling_rate": header.model.sampling_rate,
        "channels": header.model.channels,
        "codebooks": header.num_codebooks,
        "frames": sum(header.segment_frames),
        "segments": len(header.segment_frames),
        "language_model": True,
        "bytes": num_bytes,
        "file_bitrate": 8 * num_bytes / duration_s,
        "model": header.name,
    }


def _facts_of_model(name: str) -> dict:
    config = load_config(name)
    facts = {
        "model": name,
        "sampling_rate": config.sampling_rate,
        "hop_length": config.hop_length,
        "frame_rate": config.frame_rate,
        "codebook_size": config.codebook_size,
        "latent_width": config.hidden_size,
        "receptive_field": config.receptive_field,
    }
    if config.model_type == "dac":
        return {**facts, "codebooks": config.n_codebooks, "bitrate": config.bitrate()}
    return {
        **facts,
        "channels": config.audio_channels,
        "codebooks": config.num_quantizers,
        "bitrate": config.bitrate(config.target_bandwidths[-1]),
        "bandwidths_kbps": ", ".join(f"{one:g}" for one in config.target_bandwidths),
    }
