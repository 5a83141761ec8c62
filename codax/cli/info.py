"""`codax info`: what a compressed file or a model is."""

import argparse
import json
import math
from pathlib import Path

from codax.cli.models import explained
from codax.errors import CodaxError


def add_to(commands) -> None:
    parser = commands.add_parser("info", help="describe a compressed file or a model")
    parser.add_argument("subject", help="a .dac file, or a preset name, Hub id or model folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    path = Path(options.subject)
    is_file = path.suffix.lower() == ".dac"
    if path.is_file() and not is_file:
        raise CodaxError(f"{path}: neither a .dac file nor a model folder")
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
    from codax.formats import EncodedAudio

    encoded = EncodedAudio.load(path)
    num_bytes = Path(path).stat().st_size
    return {
        "file": path,
        "duration_s": encoded.duration_s,
        "sampling_rate": encoded.sampling_rate,
        "channels": encoded.channels,
        "codebooks": encoded.num_codebooks,
        "frames": encoded.num_frames,
        "chunks": math.ceil(encoded.num_frames / encoded.chunk_frames),
        "input_db": encoded.input_db,
        "bytes": num_bytes,
        "file_bitrate": 8 * num_bytes / encoded.duration_s,
    }


def _facts_of_model(name: str) -> dict:
    config = _config_of(name)
    return {
        "model": name,
        "sampling_rate": config.sampling_rate,
        "hop_length": config.hop_length,
        "frame_rate": config.frame_rate,
        "codebooks": config.n_codebooks,
        "codebook_size": config.codebook_size,
        "bitrate": config.bitrate(),
        "latent_width": config.hidden_size,
        "receptive_field": config.receptive_field,
    }


def _config_of(name: str):
    """A preset's needs no file; any other is read from its folder or repository."""
    from codax.configuration import DAC_PRESETS, DacConfig
    from codax.conversion import resolve_model

    if name in DAC_PRESETS:
        return DacConfig.preset(name)
    resolved = resolve_model(name)
    try:
        return DacConfig.from_pretrained(resolved)
    except (OSError, ValueError) as error:
        raise explained(name, error) from error
