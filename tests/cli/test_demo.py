"""`codax demo`: a recording through the built-in model."""

import json
import sys

import pytest
import soundfile

from codax import builtin
from codax.formats import EncodedAudio

from .running import finish, start, write_audio


def files_of(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What it says and writes of its own recording, in a process that has no network."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("demo")
    finished = finish(start("demo", "-o", folder), timeout_s=300)
    return folder, finished.assert_succeeded().out


def test_everything_is_there_to_hear_and_to_see(shown):
    folder, _ = shown
    names = {"recording.flac", "recording.codax", "recording.decoded.wav", "recording.png"}
    assert files_of(folder) == names
    original = soundfile.info(builtin.RECORDING)
    decoded = soundfile.info(folder / "recording.decoded.wav")
    assert (decoded.frames, decoded.samplerate) == (original.frames, original.samplerate)
    assert EncodedAudio.load(folder / "recording.codax").model == "builtin"


def test_sizes_speed_and_quality_are_told(shown):
    folder, out = shown
    size = (folder / "recording.codax").stat().st_size
    assert f"{size:,} bytes" in out
    for words in ("kbps", "times smaller", "encoded in", "decoded in", "(builtin at", "(Opus at"):
        assert words in out
    assert "--model dac_44khz" in out


def test_a_second_run_replaces_nothing_unless_told(codax, tmp_path):
    write_audio(tmp_path / "a.wav", num_samples=99)
    told = codax("demo", "a.wav", "--json")
    assert told.status == 0
    facts = json.loads(told.out)
    assert (facts["codebooks"], facts["quality"]) == (12, [])  # too short to be measured
    assert files_of(tmp_path / "codax-demo") == {"a.codax", "a.decoded.wav", "a.png"}
    codax("demo", "a.wav").assert_failed("codax-demo/a.codax", "--overwrite")
    codax("demo", "a.wav", "--overwrite").assert_succeeded("too short to be measured")


def test_the_input_is_never_replaced(codax, tmp_path):
    write_audio(tmp_path / "a.decoded.wav", num_samples=99)
    write_audio(tmp_path / "a.wav", num_samples=99)
    (tmp_path / "a.wav").replace(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    codax("demo", "a.png", "-o", ".", "--overwrite").assert_failed("a.png", "--output")
    assert (tmp_path / "a.png").read_bytes() == before


def test_without_matplotlib_all_but_the_picture_is_there(codax, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_audio(tmp_path / "a.wav", num_samples=99)
    told = codax("demo", "a.wav")
    assert told.status == 0
    assert 'pip install "codax[demo]"' in told.err
    assert len(told.err.splitlines()) == 1
    assert files_of(tmp_path / "codax-demo") == {"a.codax", "a.decoded.wav"}


def test_what_is_no_audio_fails_in_one_line_and_leaves_nothing(codax, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    codax("demo", "text.wav").assert_failed("text.wav")
    codax("demo", "nothing.wav").assert_failed("nothing.wav")
    assert not (tmp_path / "codax-demo").exists()
