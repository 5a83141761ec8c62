"""EnCodec's language models as they are released: fetched, checked, converted once and kept.

Their weights and both kinds of files: tests/modeling/test_encodec_lm.py.
"""

import dataclasses
import hashlib
import os
import sys
from functools import partial

import numpy as np
import pytest

from codax.configuration.configuration_encodec_lm import ENCODEC_LMS, EncodecLmArchitecture
from codax.conversion import download_model, load_encodec_lm, released_encodec_lm, save_encodec_lm
from codax.conversion.checkpoints import LANGUAGE_MODELS, converted_folder, originals_folder
from codax.conversion.encodec_lm import LM_SAFETENSORS
from codax.errors import CheckpointError, CodaxError
from codax.modeling.torch_layout import params_to_torch
from codax.modeling.weight_table import encodec_lm_weight_rules
from tests.hub.serving import serving
from tests.messages import one_line_error

from .loopback import FileServer

torch = pytest.importorskip("torch", reason="torch is not installed (from the extra `convert`)")

TINY = {
    "encodec_24khz": EncodecLmArchitecture(3, 7, 16, 8, num_layers=1, num_heads=2),
    "encodec_48khz": EncodecLmArchitecture(2, 9, 16, 8, num_layers=1, num_heads=2),
}


@pytest.fixture(autouse=True)
def architectures(monkeypatch):
    """The released models, tiny."""
    for model, architecture in TINY.items():
        monkeypatch.setitem(ENCODEC_LMS, model, architecture)


@pytest.fixture(params=TINY)
def model(request):
    """The name of the codec's preset."""
    return request.param


def state_of(model):
    """What the original's file holds: random weights under their names."""
    generator = torch.Generator().manual_seed(0)
    rules = encodec_lm_weight_rules(TINY[model])
    return {rule.torch_key: torch.randn(rule.torch_shape, generator=generator) for rule in rules}


def original_bytes(model, path):
    torch.save(state_of(model), path)
    return path.read_bytes()


@pytest.fixture
def publish(monkeypatch):
    """`publish(model, content, url)`: a language model's file has this content; -> its name."""

    def set_up(model, content, url="http://127.0.0.1:9/lm.th"):
        name = model.replace("encodec_", "encodec_lm_")
        prefix = hashlib.sha256(content).hexdigest()[:8]
        entry = dataclasses.replace(
            LANGUAGE_MODELS[name],
            url=url,
            file_name=f"{name}-{prefix}.th",
            sha256_prefix=prefix,
            size_mb=None,
        )
        monkeypatch.setitem(LANGUAGE_MODELS, name, entry)
        return entry.file_name

    return set_up


@pytest.fixture
def original(model, publish, tmp_path):
    """The original's file in the cache, as if downloaded."""
    content = original_bytes(model, tmp_path / "lm.th")
    path = originals_folder() / publish(model, content)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def assert_has_the_weights(lm, model):
    assert (lm.model, lm.architecture) == (model, TINY[model])
    state = params_to_torch(encodec_lm_weight_rules(lm.architecture), lm.params)
    expected = state_of(model)
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        np.testing.assert_array_equal(state[key], tensor)


failure = partial(one_line_error, CheckpointError)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(LANGUAGE_MODELS))
def test_file_named_as_released_with_another_content_is_refused(tmp_path, name):
    path = tmp_path / LANGUAGE_MODELS[name].file_name
    torch.save(state_of("encodec_24khz"), path)
    message = failure(load_encodec_lm, path)
    assert message.startswith(str(path))
    assert LANGUAGE_MODELS[name].sha256_prefix in message


def test_file_with_the_published_checksum_is_read(original, model):
    assert_has_the_weights(load_encodec_lm(original), model)


class Gadget:
    """Unpickled the usual way, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_file_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path):
    path, trace = tmp_path / "lm.th", tmp_path / "trace"
    torch.save(state_of("encodec_24khz") | {"emb.0.weight": Gadget(trace)}, path)
    message = failure(load_encodec_lm, path)
    assert message.startswith(str(path))
    assert "posix.system" in message
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("file_name", ["lm.th", LM_SAFETENSORS])
def test_truncated_file_is_refused_by_its_name(tmp_path, file_name, kept):
    original_bytes("encodec_24khz", tmp_path / "lm.th")
    save_encodec_lm(load_encodec_lm(tmp_path / "lm.th"), tmp_path)
    path = tmp_path / file_name
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert failure(load_encodec_lm, path).startswith(str(path))


def test_weights_without_name_or_numbers_are_refused_by_the_files_name(tmp_path):
    path = tmp_path / "lm.th"
    torch.save({**state_of("encodec_24khz"), 3: torch.zeros(1), "epoch": 7}, path)
    message = failure(load_encodec_lm, path)
    assert message.startswith(str(path))
    assert "3" in message
    assert "'epoch'" in message


def test_saved_language_model_does_not_overwrite_the_codec_beside_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"the codec's")
    original_bytes("encodec_24khz", tmp_path / "lm.th")
    path = save_encodec_lm(load_encodec_lm(tmp_path / "lm.th"), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"the codec's"
    assert_has_the_weights(load_encodec_lm(path), "encodec_24khz")


def test_full_disk_leaves_no_half_language_model(tmp_path, largest_file):
    original_bytes("encodec_24khz", tmp_path / "lm.th")
    lm = load_encodec_lm(tmp_path / "lm.th")
    folder = tmp_path / "model"
    with largest_file(1000), pytest.raises(OSError, match="too large"):
        save_encodec_lm(lm, folder)
    assert list(folder.iterdir()) == []


# --- released ------------------------------------------------------------------------------------


def test_released_language_model_is_converted_from_the_original_in_the_cache(original, model):
    assert_has_the_weights(released_encodec_lm(model), model)
    folder = converted_folder(model.replace("encodec_", "encodec_lm_"))
    assert (folder / LM_SAFETENSORS).is_file()


def test_language_model_converted_before_takes_neither_torch_nor_its_original(
    original, model, monkeypatch
):
    released_encodec_lm(model)
    original.unlink()
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    lm = released_encodec_lm(model, local_files_only=True)
    assert lm.architecture == TINY[model]


def test_language_model_is_downloaded_once(model, publish, tmp_path):
    server = FileServer(original_bytes(model, tmp_path / "lm.th"))
    with serving(server) as address:
        publish(model, server.content, f"{address}/lm.th")
        for _ in range(2):
            assert_has_the_weights(released_encodec_lm(model), model)
        assert server.starts == [None]
        released_encodec_lm(model, force_download=True)
        assert server.starts == [None, None]


def test_downloaded_file_with_another_checksum_is_refused_and_not_kept(publish, tmp_path):
    content = original_bytes("encodec_24khz", tmp_path / "lm.th")
    with serving(FileServer(content + b"\0")) as address:
        file_name = publish("encodec_24khz", content, f"{address}/lm.th")
        message = failure(released_encodec_lm, "encodec_24khz")
    assert "SHA-256" in message
    assert not (originals_folder() / file_name).exists()
    assert not converted_folder("encodec_lm_24khz").exists()


def test_offline_the_way_to_get_the_file_is_told(publish):
    file_name = publish("encodec_24khz", b"", "http://127.0.0.1:9/lm.th")
    message = failure(released_encodec_lm, "encodec_24khz", local_files_only=True)
    assert "http://127.0.0.1:9/lm.th" in message
    assert str(originals_folder() / file_name) in message


def test_without_torch_nothing_is_downloaded(publish, monkeypatch):
    server = FileServer(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with serving(server) as address:
        publish("encodec_24khz", server.content, f"{address}/lm.th")
        with pytest.raises(CodaxError, match=r'pip install "codax\[convert\]"'):
            released_encodec_lm("encodec_24khz")
    assert server.log == []


@pytest.mark.parametrize("model", ["encodec_32khz", "dac_44khz", "nonsense"])
def test_codec_without_language_model_is_refused_by_its_name_and_nothing_is_fetched(model):
    message = failure(released_encodec_lm, model, local_files_only=True)
    assert model in message or model.replace("encodec_", "encodec_lm_") in message
    assert "encodec_24khz, encodec_48khz" in message


def test_language_model_is_fetched_ahead_by_its_name(original, model):
    name = model.replace("encodec_", "encodec_lm_")
    folder = download_model(name)
    assert folder == str(converted_folder(name))
    assert_has_the_weights(load_encodec_lm(folder), model)
