"""How `codax tokenize` tells how far it is."""

import io

import pytest
from huggingface_hub.utils import tqdm

from codax.cli import tokenize
from codax.corpus.job import Progress


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(tokenize, "are_progress_bars_disabled", lambda: False)


def progress_after(clips, seconds):
    """Of 10000 clips, 9000 of which earlier runs did."""
    return Progress(
        total=10000, clips=9000 + clips, earlier=9000, audio_s=60.0 * clips, elapsed_s=seconds
    )


def test_the_bar_of_a_run_that_goes_on_has_the_pace_of_this_run(shown, monkeypatch):
    monkeypatch.setattr(tqdm, "__init__", tqdm.__bases__[0].__init__)  # whatever disables bars
    with tqdm(total=0, unit="clip", miniters=1, file=io.StringIO()) as bar:
        report = tokenize.Report(bar)
        report.tell(progress_after(0, 0.0))
        bar.start_t -= 10
        bar.last_print_t -= 10
        report.tell(progress_after(10, 10.0))
        drawn = str(bar)
    assert "9010/10000" in drawn
    assert "16:3" in drawn  # 990 clips at one a second
    assert "0.167 h of audio, 60x real time" in drawn


def test_without_a_terminal_a_line_a_minute_tells_the_time_left(shown, monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(tokenize.time, "monotonic", lambda: clock[0])
    report = tokenize.Report(tqdm(total=0, disable=True))
    for second in range(151):
        clock[0] = float(second)
        report.tell(progress_after(second, clock[0]))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "codax: 9060 of 10000 clips, 1 h of audio, 60x real time, 15:40 left",
        "codax: 9120 of 10000 clips, 2 h of audio, 60x real time, 14:40 left",
    ]


def test_where_progress_bars_are_disabled_nothing_is_told(monkeypatch, capsys):
    monkeypatch.setattr(tokenize, "are_progress_bars_disabled", lambda: True)
    monkeypatch.setattr(tokenize, "LINE_EVERY_S", 0.0)
    tokenize.Report(tqdm(total=0, disable=True)).tell(progress_after(5, 5.0))
    assert capsys.readouterr().err == ""


def test_a_run_that_has_done_nothing_yet_knows_no_time_left():
    assert progress_after(0, 0.0).left_s is None
