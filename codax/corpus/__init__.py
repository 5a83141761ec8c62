"""Corpora as tokens: callables for `datasets.map`, resumable jobs, Ray Data, layouts for models."""

from codax.corpus.decode_audio import DecodeAudio
from codax.corpus.encode_audio import EncodeAudio, PrepareAudio
from codax.corpus.layouts import delayed, flattened, undelayed, unflattened
from codax.corpus.places import this_place
from codax.corpus.rows import clip_of, row_of

__all__ = [
    "DecodeAudio",
    "EncodeAudio",
    "PrepareAudio",
    "clip_of",
    "delayed",
    "flattened",
    "row_of",
    "this_place",
    "undelayed",
    "unflattened",
]
