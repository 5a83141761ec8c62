"""Make the recording that comes with codax, for `codax demo`: speech, then music, 16 kHz mono.

    python scripts/builtin/make_recording.py codax/builtin/recording.flac

The voice and the instruments are held out of training. The programs are those of make_audio.py.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parents[2]))

from codax.files import atomic_path
from scripts.builtin.acoustics import FLOORS_DB, SAMPLING_RATE, at_level, coloured_noise
from scripts.builtin.music import music_clip
from scripts.builtin.programs import SOUNDFONT
from scripts.builtin.speech import Speaker, Voice

TEXT = (
    "A second of this voice is a quarter of a million bits. "
    "Here it goes through six thousand, and comes out again. Now listen to the music."
)
MUSIC_S = 5.0
PAUSE_S = 0.4
LEVEL_DB = -20.0
SEED = 7


def main() -> None:
    """Write it to the path that is given."""
    random = np.random.default_rng(SEED)
    slt = Voice("flite", "slt", "en")
    speech = Speaker(slt, stretch=1.0, speed=1.0, pitch=50, pitch_range=100).says(TEXT)
    music, _ = music_clip(random, "held_out", round(MUSIC_S * SAMPLING_RATE), SOUNDFONT)
    pause = np.zeros(round(PAUSE_S * SAMPLING_RATE))
    samples = np.concatenate([at_level(speech, LEVEL_DB), pause, at_level(music, LEVEL_DB)])
    floor = coloured_noise(random, len(samples), slope=0.5)
    samples += 10 ** (FLOORS_DB[0] / 20) * floor
    path = Path(sys.argv[1])
    with atomic_path(path) as temporary:
        soundfile.write(temporary, samples, SAMPLING_RATE, "PCM_16", format="FLAC")


if __name__ == "__main__":
    main()
