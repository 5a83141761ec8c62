"""Scores, and the standard MIDI files that say the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

TICKS_PER_BEAT = 480
DRUM_CHANNEL = 9


@dataclass(frozen=True)
class Note:
    """start, length: in beats; pitch, velocity: as MIDI has them, up to 127; channel: 0 to 15."""

    start: float
    length: float
    pitch: int
    velocity: int
    channel: int


@dataclass(frozen=True)
class Score:
    """programs: a channel -> the number of its instrument, from 0; tempo: beats in a minute."""

    tempo: float
    programs: Mapping[int, int]
    notes: Sequence[Note]


def midi_file(score: Score) -> bytes:
    """A file of format 0: a header, and one track of all events, in the order of time."""
    header = (0).to_bytes(2) + (1).to_bytes(2) + TICKS_PER_BEAT.to_bytes(2)
    track, now = b"", 0
    for tick, event in sorted(_events(score), key=lambda timed: timed[0]):
        track += _variable_length(tick - now) + event
        now = tick
    track += _variable_length(TICKS_PER_BEAT) + b"\xff\x2f\x00"  # the end, a beat later
    return _chunk(b"MThd", header) + _chunk(b"MTrk", track)


def _events(score: Score) -> Iterator[tuple[int, bytes]]:
    """(tick, event): a note that ends comes before one that begins at the same tick."""
    yield 0, b"\xff\x51\x03" + round(60e6 / score.tempo).to_bytes(3)
    for channel, program in score.programs.items():
        yield 0, bytes([0xC0 | channel, program])
    spans = [(_tick(note.start), _tick(note.start + note.length), note) for note in score.notes]
    for start, end, note in spans:
        yield max(end, start + 1), bytes([0x80 | note.channel, note.pitch, 0])
    for start, _, note in spans:
        yield start, bytes([0x90 | note.channel, note.pitch, note.velocity])


def _tick(beats: float) -> int:
    return max(0, round(beats * TICKS_PER_BEAT))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4) + content


def _variable_length(number: int) -> bytes:
    """Seven bits in each byte, the highest first; all but the last have the eighth bit set."""
    septets = [number & 0x7F]
    while number := number >> 7:
        septets.append(0x80 | (number & 0x7F))
    return bytes(reversed(septets))
