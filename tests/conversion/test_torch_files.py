"""Pickled files: read as data, or refused in one line that says why."""

import os
import pickle
import sys

import numpy as np
import pytest

from codax.conversion.torch_files import as_arrays, import_torch, read_torch_file
from codax.errors import CheckpointError, CodaxError
from tests.messages import one_line_error

torch = pytest.importorskip("torch", reason="torch is not installed (from the extra `convert`)")


class Gadget:
    """Unpickled the usual way, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def refusal_of(path):
    message = one_line_error(CheckpointError, read_torch_file, path)
    assert message.startswith(str(path))
    assert "weights_only" not in message
    return message


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_both_formats_of_torch_save_are_read(tmp_path, is_zip):
    path = tmp_path / "file.pth"
    stored = {"weight": torch.arange(6.0).reshape(2, 3), "rates": [2, 4], "name": "tiny"}
    torch.save(stored, path, _use_new_zipfile_serialization=is_zip)
    read = read_torch_file(path)
    assert torch.equal(read["weight"], stored["weight"])
    assert (read["rates"], read["name"]) == ([2, 4], "tiny")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_file_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path, is_zip):
    path, trace = tmp_path / "file.pth", tmp_path / "trace"
    torch.save({"w": Gadget(trace)}, path, _use_new_zipfile_serialization=is_zip)
    assert "asks for posix.system" in refusal_of(path)
    assert not trace.exists()


def test_plain_pickle_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path):
    path, trace = tmp_path / "file.pth", tmp_path / "trace"
    path.write_bytes(pickle.dumps(Gadget(trace), protocol=2))
    assert "asks for posix.system" in refusal_of(path)
    assert not trace.exists()


def test_refusal_names_the_class_that_a_file_asks_for(tmp_path):
    path = tmp_path / "file.pth"
    torch.save({"w": np.zeros(3)}, path)
    assert "asks for numpy._core.multiarray._reconstruct" in refusal_of(path)


def test_environment_cannot_lift_the_refusal(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, trace = tmp_path / "file.pth", tmp_path / "trace"
    torch.save({"w": Gadget(trace)}, path)
    refusal_of(path)
    assert not trace.exists()


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, is_zip, kept):
    path = tmp_path / "file.pth"
    torch.save({"w": torch.zeros(2000)}, path, _use_new_zipfile_serialization=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    refusal_of(path)  # cut through a name, the legacy format asks for half of it


@pytest.mark.parametrize(
    "content", [b"", b"not found\n", b"<html></html>", b"\x80\x02.", b"PK\x03\x04"]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    assert "damaged, or not a file of torch.save" in refusal_of(path)


def test_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "file.pth")


def test_tensors_become_arrays_without_a_copy():
    tensor = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    array = as_arrays({"w": tensor}, "file")["w"]
    assert array.ctypes.data == tensor.data_ptr()
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_bfloat16_keeps_its_values():
    array = as_arrays({"w": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}, "file")["w"]
    assert array.dtype.name == "bfloat16"
    assert array.astype(np.float32).tolist() == [1.5, -2.0]


@pytest.mark.filterwarnings("ignore:Sparse")
def test_all_entries_that_are_no_dense_tensors_are_told_at_once():
    state = {
        "number": 3,
        "sparse": torch.zeros(3).to_sparse(),
        "meta": torch.zeros(3, device="meta"),
        7: torch.zeros(3),
        "good": torch.zeros(3),
    }
    with pytest.raises(CheckpointError, match="4 weights") as raised:
        as_arrays(state, "file")
    assert all(repr(key) in str(raised.value) for key in ("number", "sparse", "meta", 7))


def test_missing_torch_is_told_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(CodaxError, match=r'torch: pip install "codax\[convert\]"'):
        import_torch()


def test_torch_whose_restricted_loading_is_broken_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file.pth"
    torch.save({}, path)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(CodaxError, match=r"torch 2\.9\.1\+cpu is too old"):
        read_torch_file(path)
    monkeypatch.setattr(torch, "__version__", "2.10.0+cpu")
    assert read_torch_file(path) == {}
