"""Music that is made up: chord progressions, and what up to five instruments play over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.builtin.midi import DRUM_CHANNEL, Note, Score

HELD_OUT_PROGRAMS = (
    6,  # harpsichord
    11,  # vibraphone
    19,  # church organ
    22,  # harmonica
    25,  # steel-string guitar
    35,  # fretless bass
    38,  # synthetic bass 1
    42,  # cello
    46,  # harp
    53,  # voice, "oo"
    57,  # trombone
    66,  # tenor saxophone
    71,  # clarinet
    75,  # pan flute
    81,  # synthetic lead, sawtooth
    91,  # synthetic pad, choir
    104,  # sitar
    114,  # steel drums
)
"""Numbers of General MIDI, from 0."""

PROGRAMS = {
    "train": [number for number in range(120) if number not in HELD_OUT_PROGRAMS],
    "held_out": list(HELD_OUT_PROGRAMS),
}
"""Without those from 120 on, which are sound effects."""

DRUM_KITS = {"train": [0, 8, 16, 24, 32, 48], "held_out": [25, 40]}
"""Held out are TR-808 and brushes."""

BASS_PROGRAMS = range(32, 40)

SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
PROGRESSIONS = (
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (0, 3, 4, 0),
    (1, 4, 0, 0),
    (0, 5, 1, 4),
    (0, 6, 5, 6),
    (5, 3, 0, 4),
    (0, 2, 3, 4),
    (0, 3),
    (0, 0, 3, 3, 0, 0, 4, 0),
    (0, 4, 5, 2, 3, 0, 3, 4),
)
"""Degrees of the scale, from 0, one for each bar."""

CELLS = ((1,), (1,), (0.5, 0.5), (0.5, 0.5), (0.25, 0.25, 0.5), (0.75, 0.25), (2,), (1.5, 0.5))
"""Lengths in beats that melodies are put together from."""

BASS_DRUM, SNARE, CLOSED_HAT, OPEN_HAT, RIDE, CRASH = 36, 38, 42, 46, 51, 49
TOMS = (41, 45, 48, 50)


@dataclass(frozen=True)
class Harmony:
    """Which chord sounds when.

    tonic: a pitch of MIDI; scale: seven semitones above it; degrees: one for each bar
    """

    tonic: int
    scale: Sequence[int]
    degrees: Sequence[int]
    beats_per_bar: int

    def pitch(self, step: int) -> int:
        """Of a step of the scale, which goes on above and below the octave of the tonic."""
        octave, degree = divmod(step, len(self.scale))
        return self.tonic + 12 * octave + self.scale[degree]

    def chord(self, bar: int, size: int = 3) -> list[int]:
        """Pitches of the chord of a bar, in thirds."""
        return [self.pitch(self.degrees[bar] + 2 * third) for third in range(size)]

    def bars(self) -> list[tuple[int, int]]:
        """(bar, the beat that it begins with)."""
        return [(bar, bar * self.beats_per_bar) for bar in range(len(self.degrees))]


def draw_score(random: np.random.Generator, part: str, duration_s: float) -> Score:
    """A score for instruments of a part (`PROGRAMS`) that lasts at least so long.

    One instrument plays melody, chords or broken chords; of several, each has a role of its own.
    """
    tempo = random.uniform(60, 170)
    harmony = _draw_harmony(random, duration_s * tempo / 60)
    num_instruments = int(random.integers(1, 6))
    roles = list(SOLO_ROLES if num_instruments == 1 else ROLES)
    drawn = [roles[place] for place in random.permutation(len(roles))[:num_instruments]]
    programs, notes = {}, []
    for free_channel, role in enumerate(drawn):
        channel = DRUM_CHANNEL if role is drums else free_channel
        programs[channel] = _draw_program(random, part, role)
        notes += role(random, harmony, channel)
    return Score(tempo, programs, [_played(random, note) for note in notes])


def melody(random: np.random.Generator, harmony: Harmony, channel: int) -> list[Note]:
    """A motif of a bar or two that follows the chords, and now and then another one."""
    motif, register = _motif(random, harmony), int(random.choice([7, 7, 14]))
    notes: list[Note] = []
    for bar, beat in harmony.bars():
        if random.random() < 0.3:
            motif = _motif(random, harmony)
        for start, length, step in motif:
            pitch = harmony.pitch(register + harmony.degrees[bar] + step)
            notes.append(Note(beat + start, length, pitch, 92, channel))
    return notes


def chords(random: np.random.Generator, harmony: Harmony, channel: int) -> list[Note]:
    """Chords in one rhythm, at once or strummed."""
    size, strum = int(random.choice([3, 3, 4])), float(random.choice([0, 0, 0.04]))
    beats = harmony.beats_per_bar
    rhythms = ([0.0], [0.0, beats / 2], range(beats), [beat + 0.5 for beat in range(beats)])
    starts = list(rhythms[int(random.integers(len(rhythms)))])
    lengths = np.diff([*starts, beats]) * random.choice([0.4, 0.95])
    return [
        Note(beat + start + strum * place, float(length), pitch, 74, channel)
        for bar, beat in harmony.bars()
        for start, length in zip(starts, lengths, strict=True)
        for place, pitch in enumerate(harmony.chord(bar, size))
    ]


def pad(random: np.random.Generator, harmony: Harmony, channel: int) -> list[Note]:
    """Chords that are held for a bar."""
    size = int(random.choice([2, 3, 4]))
    return [
        Note(beat, harmony.beats_per_bar, pitch + 12, 62, channel)
        for bar, beat in harmony.bars()
        for pitch in harmony.chord(bar, size)
    ]


def arpeggio(random: np.random.Generator, harmony: Harmony, channel: int) -> list[Note]:
    """Broken chords over two octaves."""
    length = float(random.choice([0.25, 0.5, 0.5, 1 / 3]))
    order = random.permutation(6) if random.random() < 0.4 else np.array([0, 1, 2, 3, 4, 5, 4, 3])
    notes = []
    for bar, beat in harmony.bars():
        pitches = [pitch + 12 * octave for octave in (0, 1) for pitch in harmony.chord(bar)]
        for place in range(round(harmony.beats_per_bar / length)):
            pitch = pitches[order[place % len(order)]]
            notes.append(Note(beat + place * length, length, pitch, 78, channel))
    return notes


def bass(random: np.random.Generator, harmony: Harmony, channel: int) -> list[Note]:
    """Roots, fifths and octaves, two octaves down."""
    length = float(random.choice([0.5, 1, 1, 2]))
    intervals = ([0, 0, 0, 0], [0, 7, 0, 7], [0, 0, 12, 7], [0, 12, 0, 12])
    pattern = intervals[int(random.integers(len(intervals)))]
    return [
        Note(beat + start, 0.9 * length, root - 24 + pattern[place % 4], 96, channel)
        for bar, beat in harmony.bars()
        for root in harmony.chord(bar, 1)
        for place, start in enumerate(np.arange(0, harmony.beats_per_bar, length).tolist())
    ]


def drums(random: np.random.Generator, harmony: Harmony, channel: int) -> list[Note]:
    """One pattern of a bar, in sixteenths, with a fill now and then."""
    sixteenths = 4 * harmony.beats_per_bar
    cymbal = int(random.choice([CLOSED_HAT, CLOSED_HAT, OPEN_HAT, RIDE]))
    hats = range(0, sixteenths, int(random.choice([1, 2, 2, 4])))
    kicks = [0, *np.flatnonzero(random.random(sixteenths) < 0.15).tolist()]
    snares = range(4, sixteenths, 8)
    pattern = [(cymbal, place) for place in hats] + [(BASS_DRUM, place) for place in kicks]
    pattern += [(SNARE, place) for place in snares]
    notes = []
    for bar, beat in harmony.bars():
        hits = pattern
        if bar % 4 == 3 and random.random() < 0.5:
            hits = hits + [(int(random.choice(TOMS)), sixteenths - back) for back in range(1, 5)]
        if bar % 4 == 0 and random.random() < 0.3:
            hits = [*hits, (CRASH, 0)]
        notes += [Note(beat + place / 4, 0.2, pitch, 88, channel) for pitch, place in hits]
    return notes


Role = Callable[[np.random.Generator, Harmony, int], list[Note]]
ROLES: tuple[Role, ...] = (melody, chords, bass, arpeggio, drums, pad)
SOLO_ROLES: tuple[Role, ...] = (melody, chords, arpeggio)


def _draw_harmony(random: np.random.Generator, num_beats: float) -> Harmony:
    beats_per_bar = int(random.choice([3, 4, 4, 4]))
    progression = PROGRESSIONS[int(random.integers(len(PROGRESSIONS)))]
    num_bars = int(np.ceil(num_beats / beats_per_bar)) + 1
    degrees = [progression[bar % len(progression)] for bar in range(num_bars)]
    scale = SCALES[str(random.choice(list(SCALES)))]
    return Harmony(int(random.integers(50, 62)), scale, degrees, beats_per_bar)


def _draw_program(random: np.random.Generator, part: str, role: Role) -> int:
    if role is drums:
        return int(random.choice(DRUM_KITS[part]))
    choices = PROGRAMS[part]
    if role is bass and random.random() < 0.7:
        choices = [number for number in choices if number in BASS_PROGRAMS]
    return int(random.choice(choices))


def _motif(random: np.random.Generator, harmony: Harmony) -> list[tuple[float, float, int]]:
    """(start in beats, length in beats, step above the root of the chord) of the notes of a bar."""
    notes, beat, step = [], 0.0, int(random.choice([0, 2, 4]))
    while beat < harmony.beats_per_bar:
        for length in CELLS[int(random.integers(len(CELLS)))]:
            length = min(length, harmony.beats_per_bar - beat)
            if length > 0 and random.random() > 0.12:
                notes.append((beat, 0.95 * length, step))
            beat += length
            step = int(np.clip(step + random.integers(-2, 3), -5, 9))
    return notes


def _played(random: np.random.Generator, note: Note) -> Note:
    """As a player would: not quite in time, not as loud each time, and within a piano's range."""
    start = max(0.0, note.start + 0.01 * random.standard_normal())
    velocity = int(np.clip(note.velocity + 10 * random.standard_normal(), 20, 127))
    pitch = int(np.clip(note.pitch, 24, 103))
    return Note(start, note.length, pitch, velocity, note.channel)
