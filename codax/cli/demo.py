"""`codax demo`: a recording through the built-in model, to hear and see, with no download."""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codax import builtin
from codax.cli.models import load_codec
from codax.errors import CodaxError

EXCERPT_S = 30.0
"""Seconds of a recording that are measured and drawn."""

TIMED_AGAIN_S = 120.0
"""Up to so many seconds it is coded once more, to tell how fast that is when it is compiled."""

OPUS_KBPS = 6.0
"""To compare with: the lowest that Opus has."""

EXTRA = "demo"
"""Of codax, that brings what draws the picture."""

NEXT = """\
Next, with the released models, which come from the Hub when they are first used:
  codax encode song.flac --model dac_44khz      # 44.1 kHz, up to 8 kbps
  codax encode song.flac --model encodec_24khz  # 24 kHz, 1.5 to 24 kbps"""


@dataclass(frozen=True)
class Outputs:
    """What is written.

    original: a copy of codax's own recording, which lies out of sight; None for another
    """

    compressed: Path
    decoded: Path
    picture: Path
    original: Path | None

    @classmethod
    def of(cls, source: Path, folder: Path) -> "Outputs":
        return cls(
            compressed=folder / f"{source.stem}.codax",
            decoded=folder / f"{source.stem}.decoded.wav",
            picture=folder / f"{source.stem}.png",
            original=folder / source.name if source == builtin.RECORDING else None,
        )

    def require_none(self, source: Path, overwrite: bool) -> None:
        """Raise `CodaxError` for the first that is there already, or is what is to be read."""
        for path in filter(None, (self.original, self.compressed, self.decoded, self.picture)):
            if path.exists() and source.exists() and os.path.samefile(path, source):
                raise CodaxError(f"{source}: would be replaced by an output; give --output")
            if path.exists() and not overwrite:
                raise CodaxError(f"{path}: is there already; --overwrite replaces it")


def add_to(commands) -> None:
    parser = commands.add_parser(
        "demo", help="hear and see what becomes of a recording; nothing is downloaded"
    )
    parser.add_argument(
        "audio",
        nargs="?",
        type=Path,
        default=builtin.RECORDING,
        metavar="AUDIO",
        help="a file of your own (default: one that comes with codax)",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        default=Path("codax-demo"),
        metavar="DIR",
        help="where to write (default: codax-demo)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    source, outputs = options.audio, Outputs.of(options.audio, options.output)
    outputs.require_none(source, options.overwrite)
    codec = load_codec(builtin.NAME)
    encode_s, encoded = _timed(lambda: codec.encode(source))
    decode_s, decoded = _timed(lambda: codec.decode(encoded))
    options.output.mkdir(parents=True, exist_ok=True)
    encoded.save(outputs.compressed)
    decoded.save(outputs.decoded)
    if outputs.original is not None:
        shutil.copyfile(source, outputs.original)
    facts = _facts_of(encoded, outputs.compressed.stat().st_size)
    tell = (lambda _: None) if options.json else (lambda text: print(text, flush=True))
    tell(_sizes(facts, outputs))
    facts |= {"first_encode_s": encode_s, "first_decode_s": decode_s}
    if encoded.duration_s <= TIMED_AGAIN_S:
        encode_s, _ = _timed(lambda: codec.encode(source))
        decode_s, _ = _timed(lambda: codec.decode(encoded))
    facts |= {"encode_s": encode_s, "decode_s": decode_s}
    tell(_speed(facts))
    facts["quality"] = _measured(codec, source)
    tell(_quality(facts["quality"]))
    tell(f"\nHear {outputs.original or source} and {outputs.decoded}")
    try:
        _draw(source, decoded, outputs.picture)
        tell(f"See {outputs.picture}")
    except CodaxError as error:  # there is no matplotlib, which nothing else needs
        print(f"codax: no picture: {error}", file=sys.stderr)
    tell(f"\n{NEXT}")
    if options.json:
        print(json.dumps(facts, indent=2))
    return 0


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """-> (seconds that it took, what it gave)"""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def _facts_of(encoded: Any, num_bytes: int) -> dict[str, Any]:
    pcm_bytes = 2 * encoded.num_samples * encoded.channels
    return {
        "duration_s": encoded.duration_s,
        "sampling_rate": encoded.sampling_rate,
        "channels": encoded.channels,
        "codebooks": encoded.num_codebooks,
        "bytes": num_bytes,
        "bitrate": 8 * num_bytes / encoded.duration_s,
        "compression_factor": pcm_bytes / num_bytes,
    }


def _sizes(facts: dict[str, Any], outputs: Outputs) -> str:
    return (
        f"{outputs.compressed}: {facts['duration_s']:.1f} s in {facts['bytes']:,} bytes, "
        f"{facts['bitrate'] / 1000:.2f} kbps, {facts['compression_factor']:.0f} times smaller than "
        "16-bit PCM"
    )


def _speed(facts: dict[str, Any]) -> str:
    lines = []
    for verb, done in (("encode", "encoded"), ("decode", "decoded")):
        took_s, first_s = facts[f"{verb}_s"], facts[f"first_{verb}_s"]
        line = f"{done} in {took_s:.2f} s, {facts['duration_s'] / took_s:.0f} times real time"
        lines.append(line + (f" ({first_s:.1f} s with compiling)" if took_s != first_s else ""))
    return "\n".join(lines)


def _measured(codec: Any, source: Path) -> list[dict[str, Any]]:
    """Of the model and of Opus, as `codax evaluate` measures; of nothing for very short clips."""
    from codax.evaluation import evaluate

    try:
        report = evaluate(
            codec,
            [source],
            n_quantizers=[codec.config.n_codebooks],
            metrics=["mel", "si_sdr"],
            opus_kbps=[OPUS_KBPS],
            excerpt_s=EXCERPT_S,
        )
    except CodaxError:
        return []
    return [{"codec": one.codec, "kbps": one.kbps, **one.metrics} for one in report.steps]


def _quality(measured: list[dict[str, Any]]) -> str:
    if not measured:
        return "too short to be measured"
    return "\n".join(
        f"mel distance {one['mel']:.2f} ({one['codec']} at {one['kbps']:.1f} kbps)"
        for one in measured
    )


def _draw(source: Path, decoded: Any, path: Path) -> None:
    """Draw the beginning of the original above that of what was decoded."""
    from codax.evaluation.pictures import draw_comparison
    from codax.feature_extraction import read_audio
    from codax.files import atomic_path

    original, rate = read_audio(source)
    most = round(EXCERPT_S * rate)
    with atomic_path(path) as temporary:
        draw_comparison(temporary, original[:, :most], decoded.samples[:, :most], rate, extra=EXTRA)
