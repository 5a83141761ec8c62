"""Downloads of originals: whole or not at all, continued where they broke off, ended in the end."""

import dataclasses
import hashlib
import threading
from pathlib import Path

import pytest

from codax.conversion import RELEASED, ReleasedCheckpoint, download_original
from codax.conversion.checkpoints import LANGUAGE_MODELS
from codax.conversion.download import PAUSES_S
from codax.errors import CheckpointError
from tests.hub.serving import serving
from tests.messages import one_line_error

from .loopback import FileServer

CONTENT = bytes(range(256)) * 400
HALF = len(CONTENT) // 2


@pytest.fixture
def server(monkeypatch):
    """A server of the released model `tiny`, whose file comes in pieces of 100 bytes."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    site = FileServer(CONTENT)
    with serving(site) as address:
        entry = ReleasedCheckpoint(f"{address}/weights.pth", "tiny.pth", None, "MIT")
        monkeypatch.setitem(RELEASED, "tiny", entry)
        yield site


def publish_checksum(monkeypatch, prefix):
    entry = RELEASED["tiny"]
    published = ReleasedCheckpoint(entry.url, entry.file_name, None, "MIT", prefix)
    monkeypatch.setitem(RELEASED, "tiny", published)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def failure(match, **options):
    return one_line_error(CheckpointError, download_original, "tiny", match=match, **options)


def test_file_is_downloaded_once_into_the_cache(server, cache):
    path = download_original("tiny")
    assert path == cache / "codax" / "originals" / "tiny.pth"
    assert path.read_bytes() == CONTENT
    assert files_in(path.parent) == ["tiny.pth"]
    assert download_original("tiny") == path
    assert server.starts == [None]


def test_cache_may_be_another_folder(server, tmp_path):
    assert download_original("tiny", cache_dir=tmp_path / "here") == tmp_path / "here" / "tiny.pth"


def test_force_downloads_again(server):
    path = download_original("tiny")
    server.content, server.etag = b"changed", '"second"'
    assert download_original("tiny").read_bytes() == CONTENT
    assert download_original("tiny", force=True) == path
    assert path.read_bytes() == b"changed"


def test_download_continues_where_the_connection_broke_off(server):
    server.breaks_after = [HALF, 1000]
    assert download_original("tiny").read_bytes() == CONTENT
    assert server.starts == [None, HALF, HALF + 1000]


def test_server_that_sends_no_parts_is_asked_for_the_whole_again(server):
    server.sends_parts = False
    server.breaks_after = [HALF]
    assert download_original("tiny").read_bytes() == CONTENT
    assert server.starts == [None, HALF]


def test_endless_breaks_end_in_an_error_and_the_next_call_continues(server, cache):
    server.breaks_after = [1000] * (len(PAUSES_S) + 1)
    failure("broke off")
    assert len(server.starts) == len(PAUSES_S) + 1
    assert not (cache / "codax" / "originals" / "tiny.pth").exists()

    server.log.clear()
    assert download_original("tiny").read_bytes() == CONTENT
    assert server.starts == [1000 * (len(PAUSES_S) + 1)]


def test_half_a_file_is_not_continued_with_another_one(server, cache):
    server.breaks_after = [1000] * (len(PAUSES_S) + 1)
    failure("broke off")
    server.content, server.etag = CONTENT[::-1], '"second"'
    path = download_original("tiny")
    assert path.read_bytes() == CONTENT[::-1]
    assert files_in(path.parent) == ["tiny.pth"]


def test_without_an_etag_a_later_call_starts_over(server):
    server.etag = None
    server.breaks_after = [1000] * (len(PAUSES_S) + 1)
    failure("broke off")
    server.log.clear()
    assert download_original("tiny").read_bytes() == CONTENT
    assert server.starts == [None]


def test_missing_file_is_told_with_address_and_place(server, cache):
    server.statuses = [404]
    message = failure("answers 404")
    assert RELEASED["tiny"].url in message
    assert str(cache / "codax" / "originals" / "tiny.pth") in message
    assert server.log == [("HEAD", None)]


def test_passing_server_errors_are_waited_for(server):
    server.statuses = [500, 503]
    assert download_original("tiny").read_bytes() == CONTENT


def test_lasting_server_errors_end_in_an_error(server):
    server.statuses = [500] * 100
    failure("answers 500")
    assert len(server.log) < 10


def test_unreachable_server_is_told(server, monkeypatch):
    entry = ReleasedCheckpoint("http://127.0.0.1:9/weights.pth", "tiny.pth", None, "MIT")
    monkeypatch.setitem(RELEASED, "tiny", entry)
    failure("never began")


@pytest.mark.parametrize(
    ("announced", "reason"),
    [(len(CONTENT) + 1, "only 102400 of 102401"), (HALF, "102400 bytes came instead of 51200")],
)
def test_file_of_another_length_than_announced_is_refused(server, cache, announced, reason):
    server.announced = announced
    failure(reason)
    assert not (cache / "codax" / "originals" / "tiny.pth").exists()


def test_published_checksum_is_checked(server, cache, monkeypatch):
    publish_checksum(monkeypatch, "d7cc33bc")
    failure("not with d7cc33bc as published")
    assert files_in(cache / "codax" / "originals") == []

    publish_checksum(monkeypatch, hashlib.sha256(CONTENT).hexdigest()[:8])
    assert download_original("tiny").read_bytes() == CONTENT


def test_offline_the_cache_serves_and_its_lack_is_told(server, cache, monkeypatch):
    message = failure("HF_HUB_OFFLINE or local_files_only", local_files_only=True)
    assert RELEASED["tiny"].url in message
    assert server.log == []
    path = download_original("tiny")
    assert download_original("tiny", local_files_only=True) == path

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert download_original("tiny") == path
    path.unlink()
    failure("HF_HUB_OFFLINE or local_files_only")


def test_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(CheckpointError, match=r"'dac_99khz'.*dac_44khz, dac_44khz_16kbps"):
        download_original("dac_99khz")


def test_two_that_want_the_same_file_download_it_once(server):
    threads = [threading.Thread(target=download_original, args=("tiny",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.starts == [None]


@pytest.mark.parametrize("announced", [0, 700, 1300])
def test_a_file_of_quite_another_size_is_refused_before_it_comes(server, monkeypatch, announced):
    entry = dataclasses.replace(RELEASED["tiny"], size_mb=1)
    monkeypatch.setitem(RELEASED, "tiny", entry)
    server.announced = announced * 1000
    failure(f"announces {server.announced} bytes; the file has about 1 MB")
    assert server.starts == []


def test_the_documentation_has_the_table_of_originals():
    rows = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8").splitlines()
    for name, entry in {**RELEASED, **LANGUAGE_MODELS}.items():
        (row,) = [row for row in rows if row.startswith(f"| `{name}` |")]
        *_, size_mb, prefix, hub_id, license_name = row.strip("| ").split(" | ")
        assert size_mb == str(entry.size_mb)
        assert prefix.strip("`") == (entry.sha256_prefix or "not published")
        assert hub_id.strip("`") == (entry.hub_id or "none")
        assert license_name == entry.license
