"""A run that is broken off in the middle of a write leaves no half-written file behind."""

import signal
import time
from pathlib import Path

import pytest

from codax import EncodedAudio

from .running import files_below, finish, left_as_it_was, start, write_audio, write_codes

# A disk that takes one file, and half of the next; then it is busy for a minute.
SLOW_DISK = """
import pathlib, sys, time

write_bytes = pathlib.Path.write_bytes
written = []

def write_slowly(path, content):
    if path.parent.name != "out" or not written:
        written.append(path)
        return write_bytes(path, content)
    write_bytes(path, content[: len(content) // 2])
    pathlib.Path("half written").touch()
    time.sleep(60)

pathlib.Path.write_bytes = write_slowly
from codax.cli.main import main

sys.exit(main(sys.argv[1:]))
"""


def interrupt_in_mid_write(tiny_folder, signal_number):
    """Two files are encoded, the second of them slowly; the signal comes while it is written."""
    write_audio("in/fast.wav")
    write_audio("in/slow.wav")
    process = start("encode", "--model", tiny_folder, "in", "-o", "out", script=SLOW_DISK)
    deadline = time.monotonic() + 100
    while not Path("half written").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal_number)
    return finish(process)


@pytest.mark.usefixtures("codax")  # for the empty folder
def test_ctrl_c_leaves_whole_files_only_and_says_so(tiny_folder):
    finished = interrupt_in_mid_write(tiny_folder, signal.SIGINT)
    assert (finished.status, finished.out) == (130, "")
    assert finished.err == "codax: interrupted; no file is half-written\n"
    assert files_below("out") == ["fast.dac"]
    assert EncodedAudio.load("out/fast.dac").num_frames == 11


@pytest.mark.usefixtures("codax")
def test_a_killed_run_leaves_no_half_written_file_under_its_final_name(tiny_folder, coding):
    finished = interrupt_in_mid_write(tiny_folder, signal.SIGKILL)
    assert finished.status == -signal.SIGKILL
    names = files_below("out")
    assert "slow.dac" not in names
    assert EncodedAudio.load("out/fast.dac").num_frames == 11

    again = coding("encode", "in", "-o", "out")
    assert again.status == 0
    assert EncodedAudio.load("out/slow.dac") == EncodedAudio.load("out/fast.dac")


@pytest.mark.parametrize("old_content", [None, "mine"])
def test_an_interrupted_write_keeps_the_old_output(coding, monkeypatch, old_content):
    write_audio("song.wav")
    write_bytes = Path.write_bytes

    def interrupted(path, content):
        write_bytes(path, content[:100])
        raise KeyboardInterrupt

    with left_as_it_was("song.dac", old_content):
        monkeypatch.setattr(Path, "write_bytes", interrupted)
        finished = coding("encode", "song.wav", "--overwrite")
        assert finished.status == 130
        assert finished.err == "codax: interrupted; no file is half-written\n"


def test_an_interrupted_decoding_leaves_nothing(coding, monkeypatch):
    write_codes("song.dac")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("codax.files.os.replace", interrupted)
    assert coding("decode", "song.dac").status == 130
    assert files_below() == ["song.dac"]
