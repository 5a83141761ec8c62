"""The small model that comes with codax, and a recording to try it on.

A DAC for 16 kHz mono, 0.5 to 6 kbps, trained by codax on synthetic speech, music and effects:
docs/builtin.md.
"""

from pathlib import Path

NAME = "builtin"
"""As a model is named: `AudioCodec.from_pretrained("builtin")`, `--model builtin`."""

MODEL = Path(__file__).with_name("model")
"""A folder as on the Hub: configuration, weights, feature extractor, card."""

RECORDING = Path(__file__).with_name("recording.flac")
"""Some seconds of speech and music, 16 kHz mono, by a voice and instruments that the model was not
trained on."""
