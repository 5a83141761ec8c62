"""Files and arrays in, compressed audio out, and back."""

from codax.codec.audio import Audio, LazyAudio
from codax.codec.audio_codec import AudioCodec
from codax.codec.language_models import language_model, read_compressed

__all__ = ["Audio", "AudioCodec", "LazyAudio", "language_model", "read_compressed"]
