"""The README's commands and snippets, run as they stand but for the name of the model."""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Dataset

from tests.reference import peers

if reason := peers.missing_transformers():
    pytest.skip(reason, allow_module_level=True)

from tests.reference import checkpoints, encodec_checkpoints, encodec_variants, variants

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HUB_ID = "descript/dac_44khz"
ENCODEC_HUB_ID = "facebook/encodec_48khz"
DAC = variants.VARIANTS["44khz"]
ENCODEC = encodec_variants.ENCODEC_VARIANTS["encodec_48khz"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def run_codax(command, folder, **environment):
    """What a command of the README says on stdout."""
    program, *arguments = shlex.split(command)
    assert program == "codax"
    finished = subprocess.run(
        [sys.executable, "-m", "codax", *arguments],
        cwd=folder,
        env=os.environ | {"USE_TORCH": "0", **environment},  # installing codax brings no torch
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_first_command_goes_through_the_built_in_model_with_no_network(tmp_path):
    install, demo = blocks("bash")[0].strip().split(" && ")
    assert install == 'pip install ".[demo]"'
    nobody = "http://127.0.0.1:9"
    said = run_codax(demo, tmp_path, HF_ENDPOINT=nobody, https_proxy=nobody, http_proxy=nobody)
    written = {path.name for path in (tmp_path / "codax-demo").iterdir()}
    assert written == {
        "recording.flac",
        "recording.codax",
        "recording.decoded.wav",
        "recording.png",
    }
    assert all(name in said for name in written)
    original, decoded = (
        soundfile.info(tmp_path / "codax-demo" / name)
        for name in ("recording.flac", "recording.decoded.wav")
    )
    assert decoded.frames == original.frames
    assert decoded.samplerate == original.samplerate


def test_third_command_encodes_and_decodes_with_a_released_model(tmp_path):
    """With a random model of full size in place of the trained one, as transformers writes it."""
    weights = checkpoints.make_weights(DAC)
    model_folder = checkpoints.write_transformers_folder(weights, tmp_path / "dac_44khz")
    shutil.copytree(ROOT / "tests" / "assets", tmp_path / "tests" / "assets")
    for command in blocks("bash")[2].strip().split(" && "):
        run_codax(command.replace(HUB_ID, str(model_folder)), tmp_path)
    original = soundfile.info(tmp_path / "tests" / "assets" / "speech.flac")
    decoded = soundfile.info(tmp_path / "out" / "speech.wav")
    assert decoded.frames == original.frames
    assert decoded.samplerate == original.samplerate
    assert decoded.channels == original.channels


def test_second_command_is_the_one_that_ci_runs():
    command = blocks("bash")[1].strip()
    assert command.endswith("python -m pytest")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()[-1] == command


def test_python_snippets_run(tmp_path, monkeypatch):
    """With models of the rates, lengths and codebooks of those named, but next to no weights."""
    narrow_dac = dataclasses.replace(DAC, encoder_hidden_size=4, decoder_hidden_size=32)
    narrow_encodec = dataclasses.replace(ENCODEC, num_filters=2, hidden_size=4)
    dac_folder = checkpoints.write_transformers_folder(
        checkpoints.make_weights(narrow_dac), tmp_path / "dac_44khz"
    )
    encodec_folder = encodec_checkpoints.write_transformers_folder(
        encodec_checkpoints.make_weights(narrow_encodec), tmp_path / "encodec_48khz"
    )
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests" / "assets" / "music.flac", "song.flac")
    speech, sampling_rate = soundfile.read(ROOT / "tests" / "assets" / "speech.flac")
    assert sampling_rate == 44100
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 50000))
    heard = []
    names = {
        "waveform": speech[: 20 * 512],
        "stereo_waveform": stereo,
        "microphone": np.split(speech[:48000], range(4800, 48000, 4800)),
        "play": heard.append,
        "dataset": Dataset.from_dict({"audio": [str(ROOT / "tests" / "assets" / "speech.flac")]}),
    }
    for snippet in blocks("python"):
        snippet = snippet.replace(HUB_ID, str(dac_folder))
        exec(snippet.replace(ENCODEC_HUB_ID, str(encodec_folder)), names)
    assert names["encoded"].audio_codes.shape == (3, 1, 4, 150)
    assert names["decoded"].audio_values.shape == names["inputs"].input_values.shape
    assert names["codes"].shape == (1, 9, 20)
    assert names["codes"].dtype == np.int32
    assert names["audio"].shape == (1, 20 * 512)
    assert soundfile.info("song.wav").frames == soundfile.info("song.flac").frames
    assert soundfile.info("song.wav").channels == 2
    assert names["excerpt"].duration_s == 0.5
    assert 0 <= np.concatenate(heard, axis=1).shape[1] - 48000 < 2 * 600


def table_rows(prefix):
    return re.findall(rf"^\| `({prefix}_\w+)` \|(.*)\|$", README, flags=re.MULTILINE)


def test_tables_of_checkpoints_are_complete():
    from codax.conversion import RELEASED

    assert {name for name, _ in table_rows("dac") + table_rows("encodec")} == set(RELEASED)


def test_table_of_encodec_says_what_the_presets_say():
    from codax import EncodecConfig
    from codax.conversion import RELEASED

    for name, row in table_rows("encodec"):
        cells = [cell.strip() for cell in row.split("|")]
        hub, rate, channels, bandwidths, codebooks, frames, _ = cells
        config = EncodecConfig.preset(name)
        assert hub == f"`{RELEASED[name].hub_id}`"
        assert float(rate.split()[0]) * 1000 == config.sampling_rate
        assert int(channels) == config.audio_channels
        assert [float(one) for one in bandwidths.split(", ")] == config.target_bandwidths
        levels = [config.checked_quantizers(one) for one in config.target_bandwidths]
        assert [int(one) for one in codebooks.split(", ")] == levels
        assert int(frames) == config.frame_rate


def test_table_of_dac_says_what_the_presets_say():
    from codax import DacConfig
    from codax.conversion import RELEASED

    for name, row in table_rows("dac"):
        hub, rate, codebooks, bitrate, frames, _ = [cell.strip() for cell in row.split("|")]
        config = DacConfig.preset(name)
        assert hub == (f"`{RELEASED[name].hub_id}`" if RELEASED[name].hub_id else hub)
        assert float(rate.split()[0]) * 1000 == config.sampling_rate
        assert int(codebooks) == config.n_codebooks
        assert float(bitrate.split()[0]) == pytest.approx(config.bitrate() / 1000, abs=0.01)
        assert float(frames) == pytest.approx(config.frame_rate, abs=0.01)
