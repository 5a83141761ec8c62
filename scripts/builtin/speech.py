"""Synthetic speech: who speaks, and what is said.

Voices of flite and Festival are put together from what a person recorded, or are statistics of it,
and so the nearest to speech that there is here; espeak-ng brings many languages and timbres. All
of them are listed in `voices.toml`. Held out, never in training, are

- the woman slt, as flite and Festival have her; Festival's Finnish man mv; nsk, who speaks Telugu
  and Hindi
- the languages Portuguese, Swedish, Turkish, Hindi, Telugu, Welsh, Icelandic, Basque, Albanian and
  Japanese
- 20 of espeak-ng's 67 timbres
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from scripts.builtin.acoustics import SAMPLING_RATE, at_level, cut, resampled, treated
from scripts.builtin.programs import ProgramError, run
from scripts.builtin.sentences import draw_text, pick

CHANCES = {"room": 0.3, "colour": 0.3, "narrow band": 0.1, "noise": 0.35}
ESPEAK_SHARE = 0.35
"""Of the speakers, those whom espeak-ng speaks."""

DIALOGUES = 0.2
"""Of the clips, those in which two take turns."""

CHARACTERS_PER_S = 15
"""Of text, as these voices read it, roughly."""

QUIETEST_PEAK = 0.005
"""Of what a program says, as it comes; below, it is taken to have said nothing."""

MOST_TRIES = 5
"""Texts that a voice may fail at before that is an error."""


@dataclass(frozen=True)
class Voice:
    """A voice of flite or Festival.

    language: of `phrases.toml`; share: how often it is drawn, in relation to others
    encoding: of the text that it reads; packages: of Debian, that bring it
    """

    program: str
    name: str
    language: str
    share: float = 1.0
    encoding: str = "utf-8"
    packages: Sequence[str] = ()


@dataclass(frozen=True)
class Speaker:
    """A voice, and how it speaks.

    stretch: above 1 is slower; pitch, pitch_range: of espeak-ng, 0 to 99, and in percent
    speed: above 1 is higher and faster, as of a smaller person (`resampled`)
    """

    voice: Voice
    stretch: float
    speed: float
    pitch: int
    pitch_range: int

    def says(self, text: str) -> np.ndarray:
        """-> float64 [T]. Raises `ProgramError`."""
        with TemporaryDirectory() as folder:
            sound = Path(folder, "speech.wav")
            written = Path(folder, "text")
            written.write_bytes(self._markup(text).encode(self.voice.encoding, "ignore"))
            run(self._command(written, sound), written=sound)
            samples, rate = soundfile.read(sound)
        if not np.abs(samples).max(initial=0.0) > QUIETEST_PEAK:
            raise ProgramError(f"{self.voice.program} said nothing")
        return resampled(samples, rate, self.speed)

    def _command(self, text: Path, sound: Path) -> list[str | Path]:
        """Quieter than by default, where the program would clip."""
        name, stretch = self.voice.name, f"{self.stretch:.3f}"
        if self.voice.program == "flite":
            setting = f"duration_stretch={stretch}"
            return ["flite", "-voice", name, "--setf", setting, "-f", text, "-o", sound]
        if self.voice.program == "festival":
            setting = f"(Parameter.set 'Duration_Stretch {stretch})"
            options = ["-scale", "0.5", "-eval", f"(voice_{name})", "-eval", setting]
            return ["text2wave", *options, "-o", sound, text]
        pace = str(round(160 / self.stretch))
        options = ["-m", "-b", "1", "-a", "40", "-s", pace, "-p", str(self.pitch), "-f", text]
        return ["espeak-ng", "-v", name, *options, "-w", sound]

    def _markup(self, text: str) -> str:
        """The text as the program takes it: espeak-ng's has the range of the pitch in it."""
        if self.voice.program != "espeak-ng":
            return text
        return f'<speak><prosody range="{self.pitch_range}%">{text}</prosody></speak>'


def speech_clip(
    random: np.random.Generator, part: str, num_samples: int
) -> tuple[np.ndarray, dict]:
    """-> float64 [T], and what it is: who speaks, in which languages."""
    speakers = [draw_speaker(random, part) for _ in range(1 + (random.random() < DIALOGUES))]
    samples = np.zeros(0)
    turn = 0
    while len(samples) < num_samples:
        missing_s = (num_samples - len(samples)) / SAMPLING_RATE
        turn_s = missing_s if len(speakers) == 1 else random.uniform(2, 5)
        spoken = _utterance(random, speakers[turn % len(speakers)], turn_s)
        samples = np.concatenate([samples, spoken, _pause(random)])
        turn += 1
    samples, treatments = treated(random, cut(samples, num_samples), CHANCES)
    facts = {
        "voices": [f"{speaker.voice.program} {speaker.voice.name}" for speaker in speakers],
        "languages": [speaker.voice.language for speaker in speakers],
        "treatments": treatments,
    }
    return samples, facts


def draw_speaker(random: np.random.Generator, part: str) -> Speaker:
    """A voice of a part: one of espeak-ng, or one that was recorded; pitch and pace by chance."""
    if random.random() < ESPEAK_SHARE:
        voice, speeds = _espeak_voice(random, part), (0.95, 1.05)
    else:
        voice, speeds = _recorded_voice(random, part), (0.88, 1.14)
    return Speaker(
        voice,
        stretch=random.uniform(0.8, 1.25),
        speed=random.uniform(*speeds),
        pitch=int(random.integers(25, 80)),
        pitch_range=int(random.integers(50, 170)),
    )


def voice_packages() -> dict[str, Sequence[str]]:
    """A Festival voice -> the Debian packages that it needs."""
    voices = [voice for part in _listed() for voice in recorded_voices(part)]
    return {voice.name: voice.packages for voice in voices if voice.program == "festival"}


@lru_cache
def recorded_voices(part: str) -> list[Voice]:
    """Those of flite and Festival."""
    return [Voice(**fields) for fields in _listed()[part]["recorded"]]


def _recorded_voice(random: np.random.Generator, part: str) -> Voice:
    voices = recorded_voices(part)
    shares = np.array([voice.share for voice in voices])
    return voices[int(random.choice(len(voices), p=shares / shares.sum()))]


def _espeak_voice(random: np.random.Generator, part: str) -> Voice:
    language = pick(random, _listed()[part]["espeak_languages"])
    name = f"{language}+{pick(random, _listed()[part]['espeak_timbres'])}"
    ours = language if language == "cmn-latn-pinyin" else language.split("-")[0]
    return Voice("espeak-ng", name, ours)


@lru_cache
def _listed() -> dict[str, dict]:
    return tomllib.loads(Path(__file__).with_name("voices.toml").read_text("utf-8"))


def _utterance(random: np.random.Generator, speaker: Speaker, about_s: float) -> np.ndarray:
    """Sentences that last about so long. Raises `ProgramError` where every text does."""
    numbers = speaker.voice.program == "espeak-ng" or speaker.voice.language == "en"
    for _ in range(MOST_TRIES):
        length = round(about_s * CHARACTERS_PER_S)
        text = draw_text(random, speaker.voice.language, length, numbers=numbers)
        try:
            return at_level(speaker.says(text), random.uniform(-24, -18))
        except ProgramError as error:
            reason = error
    raise ProgramError(f"{speaker.voice.name}: {reason}")


def _pause(random: np.random.Generator) -> np.ndarray:
    return np.zeros(round(random.uniform(0.05, 1.0) * SAMPLING_RATE))
