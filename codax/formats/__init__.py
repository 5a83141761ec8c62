"""File formats for compressed audio: bytes <-> `EncodedAudio`, never a model."""

from codax.formats.dac_file import dac_bytes, read_dac, write_dac
from codax.formats.encoded_audio import EncodedAudio

__all__ = ["EncodedAudio", "dac_bytes", "read_dac", "write_dac"]
