"""descript's package works with its heavy dependencies stood in for."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import soundfile

from . import inputs, peers
from .variants import TINY

if reason := peers.missing_transformers() or peers.missing_descript():
    pytest.skip(reason, allow_module_level=True)

SPEECH, MUSIC = (inputs.ASSETS / f"{name}.flac" for name in ("speech", "music"))


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    from . import checkpoints

    path = tmp_path_factory.mktemp("peers") / "weights.pth"
    return checkpoints.write_descript_file(checkpoints.make_weights(TINY), path)


@pytest.fixture(scope="module")
def model(weights_path):
    from . import checkpoints

    return checkpoints.load_descript(weights_path)


@pytest.fixture(scope="module")
def music():
    return peers.import_audiotools().AudioSignal(MUSIC)


def test_importing_leaves_no_stand_in_behind():
    program = """
import sys, importlib.util
from reference import peers
peers.import_dac()
for name in ("torchaudio", "librosa", "argbind", "ffmpy", "randomname"):
    assert name not in sys.modules or sys.modules[name].__spec__ is not None, name
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=inputs.ASSETS.parent)


def test_audio_signal_reads_files_with_offset_and_duration(music):
    audio, _ = soundfile.read(MUSIC, dtype="float32")
    np.testing.assert_array_equal(music.audio_data[0].numpy(), audio.T)
    part = peers.import_audiotools().AudioSignal(MUSIC, offset=1.0, duration=0.5)
    np.testing.assert_array_equal(part.audio_data[0].numpy(), audio.T[:, 44100:66150])


@pytest.mark.parametrize("path", [SPEECH, MUSIC], ids=["speech", "music"])
def test_loudness_equals_pyloudnorm(path):
    import pyloudnorm

    audio, rate = soundfile.read(path)
    expected = pyloudnorm.Meter(rate).integrated_loudness(audio)
    loudness = peers.import_audiotools().AudioSignal(path).loudness()
    # The filters run in float32 there, in float64 here.
    assert loudness.item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("win_duration", [1.0, 5.0])
def test_compress_save_load_decompress(model, music, win_duration, tmp_path):
    dac = peers.import_dac()
    shorter = music.deepcopy().truncate_samples(music.signal_length - 500)
    file = model.compress(shorter, win_duration=win_duration)
    assert file.padding == (win_duration > shorter.signal_duration)
    loaded = dac.DACFile.load(file.save(tmp_path / "music.dac"))
    np.testing.assert_array_equal(loaded.codes.numpy(), file.codes.numpy())
    restored = model.decompress(loaded)
    assert restored.audio_data.shape == shorter.audio_data.shape


def test_model_saves_and_loads_weights_as_its_releases_are(model, weights_path, tmp_path):
    import torch

    from . import checkpoints

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = model.save(str(tmp_path / "again.pth"), package=False)
    saved, written = (torch.load(file, weights_only=True) for file in (path, weights_path))
    assert saved.keys() == written.keys()
    assert saved["state_dict"].keys() == written["state_dict"].keys()
    assert saved["metadata"]["kwargs"].keys() >= written["metadata"]["kwargs"].keys()
    assert checkpoints.load_descript(path).latent_dim == TINY.hidden_size


def test_command_line_functions_encode_and_decode_a_folder(weights_path, tmp_path):
    dac = peers.import_dac()
    options = {"weights_path": str(weights_path), "device": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dac.utils.encode.encode(
            str(inputs.ASSETS), str(tmp_path / "dac"), win_duration=1.0, **options
        )
        dac.utils.decode.decode(str(tmp_path / "dac"), str(tmp_path / "wav"), **options)
    assert sorted(path.name for path in (tmp_path / "wav").iterdir()) == ["music.wav", "speech.wav"]
