"""File formats for compressed audio: bytes <-> `EncodedAudio`, never a model."""

from codax.formats.arithmetic_coding import AstrayError
from codax.formats.containers import clip_parser, read_clip
from codax.formats.dac_file import dac_bytes, read_dac, write_dac
from codax.formats.ecdc_file import (
    EcdcHeader,
    NextProbabilities,
    Probabilities,
    ecdc_bytes,
    read_ecdc,
    read_ecdc_header,
    write_ecdc,
)
from codax.formats.encoded_audio import EncodedAudio
from codax.formats.file_content import Source, read_named
from codax.formats.packed_file import codax_bytes, read_codax, write_codax

__all__ = [
    "AstrayError",
    "EcdcHeader",
    "EncodedAudio",
    "NextProbabilities",
    "Probabilities",
    "Source",
    "clip_parser",
    "codax_bytes",
    "dac_bytes",
    "ecdc_bytes",
    "read_clip",
    "read_codax",
    "read_dac",
    "read_ecdc",
    "read_ecdc_header",
    "read_named",
    "write_codax",
    "write_dac",
    "write_ecdc",
]
