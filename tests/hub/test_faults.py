"""What goes wrong on the way from the Hub: told in one line, nothing half-written, then mended.

`codax download` (the function and the command), `AudioCodec` and `FlaxAutoModel` meet each fault.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import FlaxAutoModel

from codax import AudioCodec, FlaxDacModel
from codax.cli.main import main
from codax.conversion import download_model
from codax.errors import CheckpointError
from tests.messages import one_line_error

from .faults import GATED, TOO_MANY, BreakOff, Corrupt, Refuse, Shorter, Stall
from .models import ID, blobs, cached, files_of
from .repository import sha256_of
from .server import TOKEN

WEIGHTS = "model.safetensors"
DOWN = f"GET /{ID}/resolve/*/{WEIGHTS}"
ASKED = f"HEAD /{ID}/resolve/*/{WEIGHTS}"
LASTING = 100  # requests; more than anybody tries


@pytest.fixture
def impatient(monkeypatch):
    """Reads time out soon, and what has come is written soon."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)


def load_auto(name):
    return FlaxAutoModel.from_pretrained(name)


# --- each fault, each way ------------------------------------------------------------------------

FAULTS = {
    "broken off": (DOWN, BreakOff(1000), 1, "broke off"),
    "too many": (DOWN, TOO_MANY, 1, "429"),
    "too many, asked": (ASKED, TOO_MANY, 1, "429"),
    "down": (DOWN, Refuse(503), LASTING, "503"),
    "down, asked": (ASKED, Refuse(500), LASTING, "500"),
    "token refused": (DOWN, Refuse(401), 1, "hf auth login"),
    "gated": (DOWN, GATED, 1, "gated"),
    "gated, asked": (ASKED, GATED, 1, "gated"),
    "shorter": (DOWN, Shorter(10), 1, "another length"),
    "stalled for good": (DOWN, Stall(), LASTING, "cannot be reached"),
    "corrupt": (DOWN, Corrupt(), 1, "damaged"),
}


@pytest.mark.parametrize("fetch", [download_model, AudioCodec.from_pretrained, load_auto])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("impatient")
def test_fault_is_told_in_one_line_and_the_next_try_works(hub, model, files, fetch, fault):
    pattern, fault, times, reason = FAULTS[fault]
    hub.fail(pattern, fault, times)
    message = one_line_error((OSError, CheckpointError), fetch, ID, match=reason)
    assert ID in message
    assert "codax download" in message or "hf auth login" in message
    assert WEIGHTS not in cached(ID)

    hub.mend()
    fetch(ID)
    assert FlaxDacModel.from_pretrained(ID, local_files_only=True)
    assert blobs(ID)[sha256_of(files[WEIGHTS])] == files[WEIGHTS]
    assert not any(name.endswith(".incomplete") for name in blobs(ID))


CONFIG_FAULTS = {
    "broken off": ("GET */config.json", BreakOff(10), 1, "broke off"),
    "too many": ("*/config.json", TOO_MANY, 1, "429"),
    "down": ("*", Refuse(503), LASTING, "503"),
    "token refused": ("*", Refuse(401), LASTING, "hf auth login"),
    "gated": ("*/config.json", GATED, 1, "gated"),
}


@pytest.mark.parametrize("fetch", [download_model, AudioCodec.from_pretrained])
@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_fault_of_the_configuration_is_told_alike(hub, model, fetch, fault):
    pattern, fault, times, reason = CONFIG_FAULTS[fault]
    hub.fail(pattern, fault, times)
    assert ID in one_line_error((OSError, CheckpointError), fetch, ID, match=reason)
    assert "config.json" not in cached(ID)

    hub.mend()
    fetch(ID)
    assert FlaxDacModel.from_pretrained(ID, local_files_only=True)


@pytest.mark.parametrize("fault", CONFIG_FAULTS)
def test_fault_of_the_configuration_ends_auto_classes_in_an_oserror(hub, model, fault):
    """transformers words it."""
    pattern, fault, _, _ = CONFIG_FAULTS[fault]
    hub.fail(pattern, fault, LASTING)
    with pytest.raises(OSError):
        FlaxAutoModel.from_pretrained(ID)
    hub.mend()
    assert FlaxAutoModel.from_pretrained(ID)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stalled for good"])
def test_command_ends_in_one_line_and_the_next_one_works(hub, model, capsys, fault):
    pattern, fault, times, reason = FAULTS[fault]
    hub.fail(pattern, fault, times)
    assert main(["download", ID]) == 1
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]  # above, huggingface_hub tells of its own retries
    assert (out, "Traceback" in err) == ("", False)
    assert last.startswith(f"codax: {ID}")
    assert reason in last

    hub.mend()
    assert main(["download", ID]) == 0
    folder = capsys.readouterr().out.strip()
    assert FlaxDacModel.from_pretrained(folder)


def test_command_that_uses_a_model_says_the_same(hub, model, capsys):
    hub.fail("*", TOO_MANY, LASTING)
    assert main(["info", ID]) == 1
    assert capsys.readouterr().err.endswith(
        f"codax: model {ID}: the Hub answers 429 Too Many Requests: run `codax download {ID}` "
        "later\n"
    )


# --- who may -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fetch", [download_model, AudioCodec.from_pretrained])
def test_who_may_not_read_is_told_how_to_become_one_who_may(hub, files, fetch, monkeypatch):
    hub.create(ID, files, private=True)
    hub.create("other/gated", files, gated=True)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises((OSError, CheckpointError), match=f"{ID} is not on the Hub, or private"):
        fetch(ID)
    fetch(ID, token=TOKEN)
    for token in (None, TOKEN):
        with pytest.raises((OSError, CheckpointError), match="other/gated is gated: ask for"):
            fetch("other/gated", token=token)
    hub.repositories["other/gated"].readers.add("owner")
    fetch("other/gated", token=TOKEN)


@pytest.mark.parametrize("fetch", [download_model, AudioCodec.from_pretrained])
def test_token_that_is_not_valid_any_more_is_told(hub, model, fetch):
    with pytest.raises((OSError, CheckpointError), match="401 Unauthorized: `hf auth login`"):
        fetch(ID, token="hf_old")


# --- damaged files -------------------------------------------------------------------------------


def test_weights_damaged_in_the_cache_are_found_by_download_and_fetched_again(hub, model, files):
    FlaxDacModel.from_pretrained(ID)
    folder = download_model(ID)
    path = os.path.realpath(os.path.join(folder, WEIGHTS))
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    with pytest.raises(CheckpointError, match="damaged"):
        download_model(ID)
    assert files_of(download_model(ID)) == files


def test_command_fetches_again_when_forced(hub, model, files, capsys):
    """The way out for files that the Hub keeps in git, which are not checked."""
    hub.fail("GET */config.json", Corrupt())
    assert main(["download", ID]) == 0
    assert main(["info", ID]) == 1
    assert main(["download", ID, "--force"]) == 0
    assert files_of(capsys.readouterr().out.splitlines()[-1]) == files
    assert main(["info", ID]) == 0


def test_weights_of_the_cache_are_not_read_twice_on_every_load(hub, model, monkeypatch):
    checked = []
    monkeypatch.setattr("codax.hub_files.check_blob", lambda path, _: checked.append(path))
    for _ in range(2):
        FlaxDacModel.from_pretrained(ID)
    assert [os.path.basename(path) for path in checked] == [WEIGHTS]


def test_damaged_shard_is_found(hub, model, files, tmp_path):
    shard = "model-00001-of-00001.safetensors"
    index = json.dumps({"weight_map": {"any": shard}}).encode()
    model.commit({shard: files[WEIGHTS], f"{WEIGHTS}.index.json": index}, deleted=[WEIGHTS])
    for fetch in (download_model, FlaxDacModel.from_pretrained):
        hub.fail(f"GET /{ID}/resolve/*/{shard}", Corrupt())
        with pytest.raises(CheckpointError, match=f"{shard} came damaged"):
            fetch(ID)
        assert shard not in cached(ID)


# --- half of a repository ------------------------------------------------------------------------


def test_second_best_weights_are_not_taken_while_the_best_do_not_come(hub, model):
    model.commit({"flax_model.msgpack": b"\0 left over"})
    hub.fail(f"* /{ID}/resolve/*/{WEIGHTS}", Refuse(503), LASTING)
    with pytest.raises(OSError, match="503"):
        FlaxDacModel.from_pretrained(ID)
    assert hub.requests("GET */flax_model.msgpack") == []


def test_half_a_repository_is_not_taken_for_the_whole(hub, model):
    """As left by a download that was stopped; snapshot_download itself hands it out."""
    hub.fail(DOWN, BreakOff(10))
    with pytest.raises(CheckpointError, match="broke off"):
        download_model(ID)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="not in the cache"):
            download_model(ID, local_files_only=True)
    hub.fail("GET /api/*", Refuse(503), LASTING)
    with pytest.raises(CheckpointError, match="503"):
        download_model(ID)


def test_repository_of_the_cache_serves_while_the_hub_is_down(hub, model):
    folder = download_model(ID)
    hub.fail("*", Refuse(503), LASTING)
    assert download_model(ID) == folder
    with pytest.raises(CheckpointError, match="503"):
        download_model(ID, force_download=True)


def test_fetched_ahead_nothing_needs_the_hub(hub, model, files):
    model.commit({"flax_model.msgpack": b"\0"}, deleted=[WEIGHTS])
    download_model(ID)
    hub.fail("*", Refuse(503), LASTING)
    with pytest.raises(CheckpointError, match=r"flax_model\.msgpack: not a whole"):
        FlaxDacModel.from_pretrained(ID)  # it was found, and is no model


def test_other_weights_are_named_when_they_are_left_behind(hub, model, caplog):
    model.commit({"flax_model.msgpack": b"\0"})
    download_model(ID)
    (record,) = caplog.records
    assert f"{ID}: using {WEIGHTS}, not flax_model.msgpack" in record.message


@pytest.mark.parametrize("missing", ["config.json", "model-00001-of-00001.safetensors"])
def test_repository_that_lacks_a_part_is_told_so(model, missing):
    index = json.dumps({"weight_map": {"any": "model-00001-of-00001.safetensors"}}).encode()
    if missing == "config.json":
        model.commit(deleted=[missing])
    else:
        model.commit({f"{WEIGHTS}.index.json": index}, deleted=[WEIGHTS])
    with pytest.raises(CheckpointError, match=missing):
        download_model(ID)


# --- killed --------------------------------------------------------------------------------------


def test_download_that_was_killed_goes_on_where_it_was(hub, files):
    large = os.urandom(25_000_000)  # more than the two pieces in which the client writes
    hub.create(ID, files | {WEIGHTS: large})
    hub.fail(DOWN, Stall(after=15_000_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "codax", "download", ID],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"USE_TORCH": "0"},
    )
    came = Path(constants.HF_HUB_CACHE, "models--owner--model", "blobs")
    unfinished = came / f"{sha256_of(large)}.incomplete"
    deadline = time.monotonic() + 60
    while not (unfinished.exists() and unfinished.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)  # time.sleep does not wait here
    process.kill()
    assert process.wait() == -signal.SIGKILL
    begun = unfinished.stat().st_size
    assert 0 < begun < len(large)
    assert WEIGHTS not in cached(ID)

    hub.log.clear()
    folder = download_model(ID)
    assert [each.range for each in hub.requests(DOWN)] == [f"bytes={begun}-"]
    assert files_of(folder)[WEIGHTS] == large
