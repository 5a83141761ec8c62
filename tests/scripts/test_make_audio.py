"""What scripts/builtin makes without any other program: texts, scores, MIDI files, effects."""

import io
import json

import numpy as np
import pytest
import soundfile

from scripts.builtin import effects
from scripts.builtin.acoustics import (
    FLOORS_DB,
    HIGHEST_PEAK,
    SAMPLING_RATE,
    TREATMENTS,
    active_level_db,
    at_level,
    coloured_noise,
    cut,
    resampled,
    treated,
)
from scripts.builtin.make_audio import PARTS, Section, make_section
from scripts.builtin.midi import TICKS_PER_BEAT, Note, Score, midi_file
from scripts.builtin.music import SAMPLED_EFFECTS
from scripts.builtin.programs import ProgramError, missing_packages, run
from scripts.builtin.scores import DRUM_CHANNEL, DRUM_KITS, PROGRAMS, draw_score
from scripts.builtin.sentences import draw_text
from scripts.builtin.speech import draw_speaker, recorded_voices, voice_packages

FAMILIES = {family.__name__: family for family in (*effects.TRAIN, *effects.HELD_OUT)}


def random_of(seed):
    return np.random.default_rng(seed)


def read_number(stream):
    """A number of variable length, as the MIDI specification reads it."""
    number = 0
    while True:
        (byte,) = stream.read(1)
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number


def read_midi(content):
    """-> ticks in a beat, and (tick, status, data) of each event."""
    stream = io.BytesIO(content)
    assert stream.read(4) == b"MThd"
    assert int.from_bytes(stream.read(4), "big") == 6
    kind, tracks, division = (int.from_bytes(stream.read(2), "big") for _ in range(3))
    assert (kind, tracks) == (0, 1)
    assert stream.read(4) == b"MTrk"
    assert int.from_bytes(stream.read(4), "big") == len(content) - stream.tell()
    events, tick = [], 0
    while stream.tell() < len(content):
        tick += read_number(stream)
        (status,) = stream.read(1)
        if status == 0xFF:
            status = 0xFF00 | stream.read(1)[0]
            data = stream.read(read_number(stream))
        else:
            data = stream.read(1 if status >> 4 == 0xC else 2)
        events.append((tick, status, data))
    return division, events


def test_midi_file_says_what_the_score_does():
    notes = [Note(0, 1, 60, 90, 0), Note(1, 0.5, 60, 80, 0), Note(300, 2, 40, 127, DRUM_CHANNEL)]
    division, events = read_midi(midi_file(Score(120, {0: 12, DRUM_CHANNEL: 25}, notes)))
    assert division == TICKS_PER_BEAT
    assert events == [
        (0, 0xFF51, (500_000).to_bytes(3, "big")),
        (0, 0xC0, bytes([12])),
        (0, 0xC9, bytes([25])),
        (0, 0x90, bytes([60, 90])),
        (480, 0x80, bytes([60, 0])),  # before the same pitch begins again
        (480, 0x90, bytes([60, 80])),
        (720, 0x80, bytes([60, 0])),
        (300 * 480, 0x99, bytes([40, 127])),
        (302 * 480, 0x89, bytes([40, 0])),
        (303 * 480, 0xFF2F, b""),
    ]


@pytest.mark.parametrize("part", PARTS)
def test_scores_last_as_long_as_asked_with_instruments_of_their_part(part):
    for seed in range(20):
        score = draw_score(random_of(seed), part, 12.0)
        assert max(note.start + note.length for note in score.notes) * 60 / score.tempo > 11.0
        assert 1 <= len(score.programs) <= 5
        for channel, program in score.programs.items():
            assert program in (DRUM_KITS if channel == DRUM_CHANNEL else PROGRAMS)[part]
        assert {note.channel for note in score.notes} <= set(score.programs)
        assert all(24 <= note.pitch <= 103 and note.length > 0 for note in score.notes)
        _, events = read_midi(midi_file(score))
        started = [event for event in events if event[1] >> 4 == 9]
        assert len(started) == len(score.notes)


def test_nothing_that_is_held_out_occurs_in_training():
    for of_parts in (PROGRAMS, DRUM_KITS, SAMPLED_EFFECTS):
        assert not set(of_parts["train"]) & set(of_parts["held_out"])
    assert not set(effects.TRAIN) & set(effects.HELD_OUT)
    names = [{(voice.program, voice.name) for voice in recorded_voices(part)} for part in PARTS]
    assert not names[0] & names[1]
    drawn = [[draw_speaker(random_of(seed), part).voice for seed in range(400)] for part in PARTS]
    espeak = [
        {tuple(voice.name.split("+")) for voice in voices if voice.program == "espeak-ng"}
        for voices in drawn
    ]
    for train, held_out in zip(*(zip(*names, strict=True) for names in espeak), strict=True):
        assert not set(train) & set(held_out)


@pytest.mark.parametrize("voice", [voice for part in PARTS for voice in recorded_voices(part)])
def test_every_voice_can_read_the_letters_of_its_language(voice):
    text = draw_text(random_of(0), voice.language, 4000, numbers=False)
    text.encode(voice.encoding)
    assert not any(letter.isdigit() for letter in text)


@pytest.mark.parametrize("language", ["en", "ru", "te", "ja", "cmn-latn-pinyin", "cy"])
def test_texts_depend_on_the_seed_alone(language):
    first, again, other = (
        draw_text(random_of(seed), language, 300, numbers=True) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert 300 <= len(first) < 500
    assert first[-1] in ".?!"


@pytest.mark.parametrize("name", FAMILIES)
def test_effects_have_their_length_and_are_heard(name):
    for seed in range(3):
        samples = FAMILIES[name](random_of(seed), 20_000)
        assert samples.shape == (20_000,)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() > 1e-3
        np.testing.assert_array_equal(samples, FAMILIES[name](random_of(seed), 20_000))


@pytest.mark.parametrize("name", TREATMENTS)
def test_treatments_keep_the_length_and_never_clip(name):
    samples = at_level(effects.bursts(random_of(0), 20_000), -20)
    after, done = treated(random_of(1), samples, {name: 1.0})
    assert done == [name]
    assert after.shape == samples.shape
    assert np.abs(after).max() <= HIGHEST_PEAK + 0.02  # which is what the floor adds at most
    assert -40 < active_level_db(after) < -15.9


def test_every_clip_has_a_floor_of_noise():
    samples = np.concatenate([effects.bursts(random_of(0), 20_000), np.zeros(40_000)])
    floors = [treated(random_of(seed), samples, {})[0][20_000:] for seed in range(20)]
    levels = [20 * np.log10(floor.std()) for floor in floors]
    assert FLOORS_DB[0] - 1 < min(levels) < max(levels) < FLOORS_DB[1] + 1
    assert max(levels) - min(levels) > 10


def test_pauses_do_not_count_in_the_level():
    noise = coloured_noise(random_of(0), SAMPLING_RATE, 0.0)
    half = np.concatenate([noise, np.zeros(SAMPLING_RATE)])
    assert active_level_db(at_level(half, -25)) == pytest.approx(-25)
    assert active_level_db(half) == pytest.approx(active_level_db(noise))


def test_cutting_and_resampling_give_the_length():
    assert len(resampled(np.ones((44_100, 2)), 44_100)) == SAMPLING_RATE
    assert len(resampled(np.ones(16_000), 16_000, speed=1.25)) == pytest.approx(12_800, abs=1)
    np.testing.assert_array_equal(cut(np.ones(3), 5), [1, 1, 1, 0, 0])
    assert cut(np.ones(9), 5)[-1] == 0


def test_sections_are_made_once_and_go_on_where_they_stopped(tmp_path, monkeypatch):
    class Options:
        seed, soundfont = 3, tmp_path

    monkeypatch.setattr(effects, "TRAIN", (effects.tones, effects.clicks))
    monkeypatch.setattr(
        "scripts.builtin.make_audio.sampled_effect",
        lambda _, num_samples, **__: np.ones(num_samples),
    )
    section = Section("train", "effects", tmp_path / "effects")
    make_section(section, 20.0, Options)
    first = {path.name: path.read_bytes() for path in section.folder.iterdir()}
    lines = section.manifest.read_text().splitlines(keepends=True)
    section.manifest.write_text(lines[0] + '{"file": "effects_000')
    (section.folder / "effects_00001.flac").write_bytes(b"of a run that was killed")
    make_section(section, 20.0, Options)
    assert {path.name: path.read_bytes() for path in section.folder.iterdir()} == first
    for line in section.manifest.read_text().splitlines():
        row = json.loads(line)
        info = soundfile.info(section.folder / row["file"])
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLING_RATE, 1, "PCM_16")
        assert info.frames / SAMPLING_RATE == row["seconds"]


def test_what_is_missing_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("scripts.builtin.programs.FESTIVAL_VOICES", tmp_path)
    missing = missing_packages(voice_packages(), tmp_path / "none.sf2")
    assert {"espeak-ng", "flite", "festival", "fluidsynth", "fluid-soundfont-gm"} < set(missing)
    assert "festvox-ru" in missing


def test_program_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(ProgramError, match="true ended with 0"):
        run(["true"], written=tmp_path / "sound.wav")
