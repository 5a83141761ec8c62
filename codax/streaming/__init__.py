"""Coding piece by piece: what comes in decides what can go out, and memory stays bounded."""

from codax.streaming.coded_frames import CodedFrames, join_frames
from codax.streaming.encoders import Encoder, Latency, encoder_of
from codax.streaming.streams import StreamDecoder, StreamEncoder

__all__ = [
    "CodedFrames",
    "Encoder",
    "Latency",
    "StreamDecoder",
    "StreamEncoder",
    "encoder_of",
    "join_frames",
]
