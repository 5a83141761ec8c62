"""Opus: the encoder that libsndfile brings, and stand-ins for programs that are not installed."""

import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from codax.errors import CodaxError
from codax.evaluation.baselines import code_with_opus, opus_encoder, packet_bits

RATE = 16000

# Stands in for a program: notes its arguments, and lets libsndfile write what it was asked for.
PROGRAM = """#!{python}
import sys, soundfile
open("{note}", "w").write(" ".join(sys.argv[1:]))
samples, rate = soundfile.read("in.wav")
soundfile.write(sys.argv[-1], samples, rate, format="OGG", subtype="OPUS")
"""
FAILING = """#!/bin/sh
echo "no such
bitrate" >&2
exit 3
"""


def tone(channels=1, seconds=1.0):
    times = np.arange(round(seconds * RATE)) / RATE
    levels = np.linspace(0.3, 0.1, channels)[:, None]
    return (levels * np.sin(2 * np.pi * (200 + 400 * times) * times)).astype(np.float32)


def error_db(clip, samples):
    return 10 * np.log10(np.mean((clip.samples - samples) ** 2) / np.mean(samples**2))


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that is all of PATH, and `install(name, script)`."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(name, script=PROGRAM):
        path = Path(tmp_path, "bin", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(script.format(python=sys.executable, note=tmp_path / name))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return install


@pytest.mark.parametrize("channels", [1, 2])
def test_opus_of_libsndfile_keeps_length_place_and_bitrate(programs, channels):
    samples = tone(channels)
    clip = code_with_opus(samples, RATE, 32 * channels)
    assert opus_encoder() == "libsndfile"
    assert (clip.samples.shape, clip.samples.dtype) == (samples.shape, np.float32)
    assert error_db(clip, samples) < -20
    assert clip.bits == pytest.approx(32000 * channels, rel=0.2)  # a target, of a short clip


def test_more_bits_come_nearer(programs):
    samples = tone()
    clips = [code_with_opus(samples, RATE, kbps) for kbps in (6, 24, 96)]
    errors = [error_db(clip, samples) for clip in clips]
    assert errors == sorted(errors, reverse=True)
    assert clips[0].bits < clips[1].bits < clips[2].bits


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("opusenc", "--quiet --bitrate 12.5 in.wav out.opus"),
        ("ffmpeg", "-loglevel error -i in.wav -c:a libopus -b:a 12500 out.opus"),
    ],
)
def test_programs_are_told_the_bitrate(programs, tmp_path, name, arguments):
    programs("ffmpeg")
    programs(name)
    samples = tone(2)
    clip = code_with_opus(samples, RATE, 12.5)
    assert opus_encoder() == name
    assert (tmp_path / name).read_text() == arguments
    assert error_db(clip, samples) < -15
    left = [path for path in tmp_path.iterdir() if path.name not in ("bin", name)]
    assert left == []


def test_a_program_that_fails_is_told_in_one_line(programs):
    programs("opusenc", FAILING)
    with pytest.raises(CodaxError, match="opusenc failed with status 3: no such bitrate"):
        code_with_opus(tone(), RATE, 16)
    programs("opusenc", "#!/bin/sh\n")
    with pytest.raises(CodaxError, match=r"opusenc wrote no Opus file: .*out\.opus"):
        code_with_opus(tone(), RATE, 16)


@pytest.mark.parametrize(("channels", "kbps"), [(1, 5.9), (1, 257), (2, 8)])
def test_bitrates_that_opus_does_not_have_are_refused_by_value(channels, kbps):
    with pytest.raises(ValueError, match=f"kbps={kbps} must be from {6 * channels} to"):
        code_with_opus(tone(channels), RATE, kbps)


def test_container_and_headers_count_for_nothing(tmp_path):
    path = tmp_path / "silence.opus"
    soundfile.write(path, np.zeros(48000), 48000, format="OGG", subtype="OPUS")
    packets = packet_bits(path.read_bytes())
    assert 0 < packets < 8 * os.path.getsize(path)


@pytest.mark.parametrize("content", [b"RIFF" + bytes(40), b"OggS"])
def test_what_is_no_ogg_is_refused(content):
    with pytest.raises(CodaxError, match="Ogg page at byte 0"):
        packet_bits(content)
