"""`codax evaluate`: a table or JSON on stdout, what was skipped on stderr."""

import json

import pytest

from .running import write_audio

STEPS = ("--n-quantizers", 1, 3)


@pytest.fixture
def folder(tmp_path):
    write_audio(tmp_path / "clips" / "a.wav", num_samples=2600)
    write_audio(tmp_path / "clips" / "below" / "b.flac", num_samples=2300)
    return tmp_path / "clips"


def test_table_json_and_plots_tell_the_same(codax, tiny_folder, folder):
    pytest.importorskip("matplotlib")
    table = codax("evaluate", tiny_folder, folder, *STEPS, "--opus", 12).assert_succeeded().out
    rows = [line for line in table.splitlines() if line.startswith(f"| {tiny_folder} |")]
    assert [row.split(" | ")[1] for row in rows] == ["1", "3"]
    assert "| Opus |" in table
    finished = codax("evaluate", tiny_folder, folder, *STEPS, "--json", "--plots", "plots")
    assert finished.status == 0
    told = json.loads(finished.out)
    assert (told["clips"], told["model"]) == (2, str(tiny_folder))
    for row, step in zip(rows, told["steps"], strict=True):
        assert f" {step['metrics']['mel']:.2f} " in row
    assert finished.err.splitlines()[0] == "codax: wrote plots/mel.png"


def test_speech_is_scored_by_stoi_where_it_is_asked_for(codax, tiny_folder, folder):
    pytest.importorskip("pystoi")
    write_audio(folder / "long.wav", num_samples=16000)
    finished = codax("evaluate", tiny_folder, folder, "--n-quantizers", 3, "--stoi", "--json")
    (step,) = json.loads(finished.assert_succeeded().out)["steps"]
    assert 0 < step["metrics"]["stoi"] < 1
    assert step["left_out"]["stoi"] == 2


def test_clips_that_cannot_be_measured_are_told_by_name(codax, tiny_folder, folder):
    write_audio(folder / "short.wav", num_samples=100)
    finished = codax("evaluate", tiny_folder, folder, *STEPS, "--json")
    assert finished.status == 0
    assert finished.err.startswith(f"codax: {folder / 'short.wav'}: is too short to be measured")
    assert len(finished.err.splitlines()) == 1
    options = (*STEPS, "--max-skipped", 0)
    codax("evaluate", tiny_folder, folder, *options).assert_failed("more than 0 clips", "short.wav")


def test_what_cannot_be_evaluated_fails_in_one_line(codax, tiny_folder, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    codax("evaluate", tiny_folder, "empty").assert_failed("empty: holds no audio")
    codax("evaluate", tiny_folder, folder, "--n-quantizers", 9).assert_failed("n_quantizers=9")
    codax("evaluate", tiny_folder, folder, "--bandwidth", 6).assert_failed("bandwidth=6.0: DAC")
    codax("evaluate", tiny_folder, folder, "--opus", 1).assert_failed("kbps=1 must be from 6")
    codax("evaluate", "nothing", folder).assert_failed("'nothing' is neither a folder")
