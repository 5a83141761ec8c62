"""Files and arrays in, compressed audio out, and back."""

from codax.codec.audio import Audio
from codax.codec.audio_codec import AudioCodec

__all__ = ["Audio", "AudioCodec"]
