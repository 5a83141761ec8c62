"""manifest.json, which processes that start together write at once."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from codax import CodaxError
from codax.corpus.job_manifest import JobManifest
from codax.files import created_first

FACTS = {"codax": "1", "revision": None, "model": "a", "n_quantizers": 8}
PROCESSES = 16


def settled_at_once(folder, facts):
    """What each of many raised, or None."""
    barrier = Barrier(PROCESSES)

    def settle(one):
        barrier.wait()
        try:
            JobManifest(folder, one).settle()
        except CodaxError as error:
            return str(error)

    with ThreadPoolExecutor(PROCESSES) as pool:
        return [*pool.map(settle, facts)]


def files_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.parametrize("before", [None, {**FACTS, "n_quantizers": 2}])
def test_processes_that_start_together_agree(tmp_path, before):
    for trial in range(20):
        folder = tmp_path / str(trial)
        if before:
            JobManifest(folder, before).settle()
        assert settled_at_once(folder, [FACTS] * PROCESSES) == [None] * PROCESSES
        assert files_in(folder) == ["manifest.json"]
        assert json.loads((folder / "manifest.json").read_text()) == FACTS


def test_once_there_is_a_shard_processes_with_other_options_are_refused(tmp_path):
    JobManifest(tmp_path, FACTS).settle()
    (tmp_path / "data" / "train-0.parquet").touch()
    others = [{**FACTS, "n_quantizers": index} for index in range(PROCESSES)]
    told = settled_at_once(tmp_path, others)
    assert [index for index, one in enumerate(told) if one is None] == [8]
    assert "n_quantizers 8, now 3" in told[3]


def test_a_list_of_skipped_clips_counts_as_begun(tmp_path):
    JobManifest(tmp_path, FACTS).settle()
    (tmp_path / "skipped").mkdir()
    (tmp_path / "skipped" / "train-00000.jsonl").touch()
    with pytest.raises(CodaxError, match="model 'a', now 'b'"):
        JobManifest(tmp_path, {**FACTS, "model": "b"}).settle()


def test_a_model_of_the_same_revision_is_the_same_by_another_name(tmp_path):
    facts = {**FACTS, "revision": "f00"}
    JobManifest(tmp_path, facts).settle()
    JobManifest(tmp_path, {**facts, "model": "b"}).require_same()
    with pytest.raises(CodaxError, match="revision 'f00', now 'ba2'"):
        JobManifest(tmp_path, {**facts, "revision": "ba2"}).require_same()


def test_what_a_killed_process_left_of_a_manifest_goes(tmp_path):
    (tmp_path / ".manifest.json-abc.json").write_text("{")
    JobManifest(tmp_path, FACTS).settle()
    (tmp_path / ".manifest.json-def.json").write_text("{")
    JobManifest(tmp_path, FACTS).settle()
    assert files_in(tmp_path) == ["manifest.json"]


def test_where_files_cannot_be_linked_the_first_still_wins(tmp_path, monkeypatch):
    def link(source, target):
        raise PermissionError(1, "Operation not permitted", source, target)

    monkeypatch.setattr(os, "link", link)
    path = tmp_path / "a.json"
    assert created_first(path, b"one")
    assert not created_first(path, b"two")
    assert path.read_bytes() == b"one"
    assert files_in(tmp_path) == ["a.json"]


def test_a_folder_that_is_missing_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        created_first(tmp_path / "gone" / "a.json", b"")
