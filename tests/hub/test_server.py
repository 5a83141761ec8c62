"""The loopback Hub as huggingface_hub sees it: what goes up comes down, faults are exceptions."""

import hashlib
import os
import subprocess
import sys
import warnings

import pytest
import requests
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    hf_hub_download,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import _CACHED_NO_EXIST

from .faults import GATED, TOO_MANY, BreakOff, Corrupt, Refuse, Shorter, Stall
from .repository import StoredFile, sha256_of
from .server import TOKEN

ID = "owner/model"
WEIGHTS = bytes(range(256)) * 200
FILES = {
    "config.json": b'{"model_type": "dac"}',
    "model.safetensors": WEIGHTS,
    "with space/näme.txt": b"quoted",
}


@pytest.fixture
def api():
    return HfApi()


@pytest.fixture
def model(hub):
    return hub.create(ID, FILES)


def add(path, content):
    return CommitOperationAdd(path, content)


def read(*arguments, **options):
    with open(hf_hub_download(*arguments, **options), "rb") as file:
        return file.read()


# --- the address ---------------------------------------------------------------------------------


def test_this_process_and_its_children_know_no_other_hub(hub):
    assert constants.ENDPOINT == os.environ["HF_ENDPOINT"] == hub.url
    script = "import huggingface_hub.constants as c; print(c.ENDPOINT, c.HF_HUB_CACHE)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert told.stdout.split() == [hub.url, constants.HF_HUB_CACHE]


def test_nothing_behind_https_can_be_reached():
    with pytest.raises(requests.exceptions.ProxyError):
        requests.get("https://huggingface.co/api/whoami-v2", timeout=5)


# --- up and down ---------------------------------------------------------------------------------


def test_created_repository_is_there_empty(hub, api):
    assert api.create_repo(ID, private=True) == f"{hub.url}/{ID}"
    repository = hub.repositories[ID]
    assert (repository.private, repository.files()) == (True, {})
    assert api.create_repo(ID, exist_ok=True).repo_id == ID
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(ID)


def test_repository_without_an_owner_is_that_of_the_user(hub, api):
    assert api.create_repo("model").repo_id == "owner/model"
    assert list(hub.repositories) == ["owner/model"]


def test_deleted_repository_is_gone(hub, model, api):
    api.delete_repo(ID)
    assert hub.repositories == {}
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(ID)


def test_commit_brings_regular_and_large_files_at_once(hub, api):
    api.create_repo(ID)
    large = {"model.safetensors": WEIGHTS, "notes": b"\0binary"}
    small = {"config.json": b"{}", "deep/inside/a b.txt": "é".encode(), "empty.bin": b""}
    operations = [add(path, content) for path, content in (large | small).items()]
    told = api.create_commit(ID, operations, commit_message="first", commit_description="why")

    repository = hub.repositories[ID]
    assert repository.files() == large | small
    initial, commit = repository.commits
    assert (commit.title, commit.description, commit.parent) == ("first", "why", initial.sha)
    assert (told.oid, set(commit.changed), commit.deleted) == (commit.sha, {*large, *small}, ())
    assert set(hub.lfs) == {sha256_of(content) for content in large.values()}
    assert {path for path, file in commit.tree.items() if file.is_lfs} == set(large)


def test_object_that_is_there_already_is_not_uploaded_again(hub, model, api):
    api.create_commit(ID, [add("copy.safetensors", WEIGHTS)], commit_message="copy")
    assert model.files()["copy.safetensors"] == WEIGHTS
    assert hub.requests("PUT *") == []


def test_commit_without_a_change_is_not_made(hub, model, api):
    operations = [add("model.safetensors", WEIGHTS), add("config.json", FILES["config.json"])]
    told = api.create_commit(ID, operations, commit_message="again")
    assert told.oid == model.branches["main"]
    assert hub.requests("POST */commit/*") == []


def test_files_and_folders_are_deleted(model, api):
    model.commit({"deep/a.txt": b"a", "deep/er/b.txt": b"b"})
    operations = [CommitOperationDelete("config.json"), CommitOperationDelete("deep/")]
    api.create_commit(ID, operations, commit_message="less")
    assert set(model.files()) == set(FILES) - {"config.json"}
    assert set(model.commits[-1].deleted) == {"config.json", "deep/a.txt", "deep/er/b.txt"}


def test_deleting_what_is_not_there_leaves_all_as_it_was(model, api):
    before = len(model.commits)
    operations = [add("new.txt", b"new"), CommitOperationDelete("absent.txt")]
    with pytest.raises(EntryNotFoundError, match=r"absent\.txt"):
        api.create_commit(ID, operations, commit_message="half")
    assert (len(model.commits), model.files()) == (before, FILES)


def test_commit_on_an_older_parent_is_refused(model, api):
    parent = model.branches["main"]
    model.commit({"config.json": b"{}"})
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(ID, [add("a.txt", b"a")], commit_message="late", parent_commit=parent)
    assert "a.txt" not in model.files()


def test_pull_requests_are_refused_clearly(model, api):
    with pytest.raises(BadRequestError, match="pull requests are not taken here"):
        api.create_commit(ID, [add("a.txt", b"a")], commit_message="please", create_pr=True)


def test_uploaded_folder_comes_down_as_it_was(hub, api, tmp_path):
    source = tmp_path / "source"
    for path, content in FILES.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(content)
    api.create_repo(ID)
    api.upload_folder(repo_id=ID, folder_path=source)
    assert hub.repositories[ID].files() == FILES

    folder = snapshot_download(ID)
    for path, content in FILES.items():
        with open(os.path.join(folder, path), "rb") as file:
            assert file.read() == content


def test_upload_can_delete_what_matches(hub, model, api, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_bytes(b"{}")
    api.upload_folder(repo_id=ID, folder_path=tmp_path / "new", delete_patterns="*.safetensors")
    assert set(model.files()) == set(FILES) - {"model.safetensors"}


def test_blobs_are_named_by_what_they_hold(model):
    names = {
        os.path.basename(os.path.realpath(hf_hub_download(ID, name)))
        for name in ("config.json", "model.safetensors")
    }
    git_oid = hashlib.sha1(b"blob 21\0" + FILES["config.json"]).hexdigest()
    assert names == {git_oid, sha256_of(WEIGHTS)}


def test_quoted_names_and_subfolders_are_found(model):
    assert read(ID, "with space/näme.txt") == b"quoted"
    assert read(ID, "näme.txt", subfolder="with space") == b"quoted"


# --- revisions -----------------------------------------------------------------------------------


def test_branches_tags_and_commits_are_revisions(model, api):
    api.create_tag(ID, tag="v1")
    api.create_branch(ID, branch="wip/x")
    api.create_commit(
        ID, [add("config.json", b"new")], commit_message="on a branch", revision="wip/x"
    )
    assert read(ID, "config.json") == read(ID, "config.json", revision="v1")
    assert read(ID, "config.json", revision="wip/x") == b"new"
    assert read(ID, "config.json", revision=model.branches["wip/x"]) == b"new"
    assert api.model_info(ID, revision="wip/x").sha == model.branches["wip/x"]


def test_references_are_listed(model, api):
    api.create_tag(ID, tag="v1")
    api.create_branch(ID, branch="next", revision="v1")
    refs = api.list_repo_refs(ID)
    assert [ref.name for ref in refs.branches] == ["main", "next"]
    assert [(ref.name, ref.ref) for ref in refs.tags] == [("v1", "refs/tags/v1")]
    assert {ref.target_commit for ref in refs.branches + refs.tags} == {model.branches["main"]}


def test_references_are_made_once_and_deleted(model, api):
    for make, drop in ((api.create_branch, api.delete_branch), (api.create_tag, api.delete_tag)):
        name = {"branch" if make == api.create_branch else "tag": "x"}
        make(ID, **name)
        make(ID, **name, exist_ok=True)
        with pytest.raises(HfHubHTTPError, match="409"):
            make(ID, **name)
        drop(ID, **name)
        with pytest.raises(RevisionNotFoundError):
            api.model_info(ID, revision="x")


def test_revision_with_a_slash_is_decoded(model):
    model.branches["refs/pr/1"] = model.branches["main"]
    model.commit({"config.json": b"proposed"}, branch="refs/pr/1")
    assert read(ID, "config.json", revision="refs/pr/1") == b"proposed"


# --- descriptions --------------------------------------------------------------------------------


def test_model_is_described(hub, api):
    hub.create(ID, FILES | {"README.md": b"---\nlicense: mit\ntags: [audio]\n---\n# Hi\n"})
    info = api.model_info(ID, files_metadata=True)
    assert (info.id, info.author, info.private, info.gated) == (ID, "owner", False, False)
    assert (info.card_data.license, info.tags) == ("mit", ["audio"])
    siblings = {sibling.rfilename: sibling for sibling in info.siblings}
    assert set(siblings) == {*FILES, "README.md"}
    assert siblings["model.safetensors"].lfs.sha256 == sha256_of(WEIGHTS)
    assert siblings["config.json"].size == len(FILES["config.json"])


def test_tree_is_listed_flat_and_deep(model, api):
    flat = {entry.path for entry in api.list_repo_tree(ID)}
    assert flat == {"config.json", "model.safetensors", "with space"}
    deep = {entry.path: entry for entry in api.list_repo_tree(ID, recursive=True)}
    assert set(deep) == {*FILES, "with space"}
    assert deep["model.safetensors"].lfs.sha256 == sha256_of(WEIGHTS)
    inside = [entry.path for entry in api.list_repo_tree(ID, "with space")]
    assert inside == ["with space/näme.txt"]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(ID, "absent"))


def test_card_with_metadata_that_are_no_mapping_is_refused(model, api):
    with pytest.raises(ValueError, match="must be a mapping"):
        api.upload_file(path_or_fileobj=b"---\n- a\n---\n", path_in_repo="README.md", repo_id=ID)
    assert "README.md" not in model.files()


def test_card_without_metadata_is_warned_of(model, api):
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        api.upload_file(path_or_fileobj=b"# Hi", path_in_repo="README.md", repo_id=ID)
    with warnings.catch_warnings(action="error"):
        card = b"---\nlicense: mit\n---\n"
        api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=ID)


# --- what is not there, and who may see it -------------------------------------------------------


def test_what_is_not_there_is_told_apart(model):
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("owner/absent", "config.json")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(ID, "config.json", revision="v9")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(ID, "absent.json")
    assert try_to_load_from_cache(ID, "absent.json") is _CACHED_NO_EXIST


def test_user_is_known_by_the_token(hub, api):
    assert api.whoami()["name"] == "owner"
    hub.tokens["hf_other"] = "other"
    assert api.whoami(token="hf_other")["name"] == "other"
    with pytest.raises(requests.HTTPError, match="Invalid user token"):
        api.whoami(token="hf_wrong")


def test_log_tells_tokens_and_ranges(hub, model):
    hf_hub_download(ID, "config.json", token=False)
    hf_hub_download(ID, "model.safetensors")
    path = f"/{ID}/resolve/main"
    told = [(each.method, each.path, each.range, each.token) for each in hub.log]
    assert told == [
        ("HEAD", f"{path}/config.json", None, None),
        ("GET", f"{path}/config.json", None, None),
        ("HEAD", f"{path}/model.safetensors", None, TOKEN),
        ("GET", f"{path}/model.safetensors", None, TOKEN),
    ]


@pytest.mark.parametrize("token", [False, "hf_wrong"])
def test_nothing_changes_without_a_valid_token(hub, model, token):
    api = HfApi(token=token)
    for attempt in (
        lambda: api.create_repo("owner/new"),
        lambda: api.create_commit(ID, [add("a.txt", b"a")], commit_message="a"),
        lambda: api.create_tag(ID, tag="v1"),
        lambda: api.delete_repo(ID),
    ):
        with pytest.raises(HfHubHTTPError, match="401"):
            attempt()
    assert (set(hub.repositories), len(model.commits), model.tags) == ({ID}, 2, {})


def test_private_repository_looks_absent_without_a_token(hub, api, tmp_path):
    hub.create(ID, FILES, private=True)
    assert read(ID, "config.json") == FILES["config.json"]
    assert api.model_info(ID).private
    with pytest.raises(RepositoryNotFoundError, match="401"):
        hf_hub_download(ID, "model.safetensors", token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(ID, token=False)
    with pytest.raises(RepositoryNotFoundError):
        snapshot_download(ID, token=False, cache_dir=tmp_path)


def test_gated_repository_is_told_of_but_its_files_are_for_readers(hub, api):
    repository = hub.create(ID, FILES, gated=True)
    hub.tokens["hf_other"] = "other"
    assert api.model_info(ID, token=False).gated == "manual"
    for token, status in ((False, "401"), ("hf_other", "403")):
        with pytest.raises(GatedRepoError, match=status):
            hf_hub_download(ID, "config.json", token=token)
    repository.readers.add("other")
    assert read(ID, "config.json", token="hf_other") == FILES["config.json"]


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "part", "told"),
    [
        ({"Range": "bytes=5-9"}, 206, WEIGHTS[5:10], "bytes 5-9/51200"),
        ({"Range": "bytes=51190-"}, 206, WEIGHTS[-10:], "bytes 51190-51199/51200"),
        ({"Range": "bytes=-3"}, 206, WEIGHTS[-3:], "bytes 51197-51199/51200"),
        ({"Range": "bytes=51200-"}, 416, b"", "bytes */51200"),
        ({"Range": "bytes=0-1", "If-Range": '"another"'}, 200, WEIGHTS, None),
        ({"Range": "bytes=0-1", "If-Range": "own"}, 206, WEIGHTS[:2], "bytes 0-1/51200"),
        ({}, 200, WEIGHTS, None),
    ],
)
def test_parts_are_sent_on_demand(hub, model, asked, status, part, told):
    if asked.get("If-Range") == "own":
        asked = asked | {"If-Range": f'"{StoredFile.of("a.bin", WEIGHTS).etag}"'}
    answer = requests.get(f"{hub.url}/{ID}/resolve/main/model.safetensors", headers=asked)
    assert (answer.status_code, answer.content) == (status, part)
    assert answer.headers.get("Content-Range") == told
    assert not any("xet" in name.lower() for name in answer.headers)


# --- faults --------------------------------------------------------------------------------------

DOWN = f"GET /{ID}/resolve/*"
HEAD = f"HEAD /{ID}/resolve/*"


@pytest.mark.parametrize(
    ("pattern", "fault", "raised", "times"),
    [
        (DOWN, BreakOff(1000), requests.exceptions.ChunkedEncodingError, 1),
        (HEAD, TOO_MANY, LocalEntryNotFoundError, 1),
        (DOWN, TOO_MANY, HfHubHTTPError, 1),
        (HEAD, Refuse(500), LocalEntryNotFoundError, 6),
        (DOWN, Refuse(503), requests.HTTPError, 6),
        (DOWN, Refuse(401), HfHubHTTPError, 1),
        (HEAD, GATED, GatedRepoError, 1),
        (DOWN, Shorter(10), OSError, 1),
    ],
)
def test_fault_of_a_download_is_the_right_exception_and_the_next_try_works(
    hub, model, pattern, fault, raised, times
):
    hub.fail(pattern, fault, times)
    with pytest.raises(raised):
        hf_hub_download(ID, "model.safetensors")
    assert try_to_load_from_cache(ID, "model.safetensors") is None
    assert read(ID, "model.safetensors") == WEIGHTS


def test_short_outage_is_waited_for(hub, model):
    hub.fail(HEAD, Refuse(500), 2)
    hub.fail(DOWN, Refuse(503), 2)
    assert read(ID, "model.safetensors") == WEIGHTS
    assert len(hub.log) == 6


def test_download_that_stalls_is_resumed_where_it_stalled(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.fail(DOWN, Stall(after=30_000))
    assert read(ID, "model.safetensors") == WEIGHTS
    assert [each.range for each in hub.requests(DOWN)] == [None, "bytes=30000-"]


def test_corrupt_bytes_are_not_found_by_the_client(hub, model):
    hub.fail(DOWN, Corrupt())
    came = read(ID, "model.safetensors")
    assert (len(came), came == WEIGHTS, came[100:]) == (len(WEIGHTS), False, WEIGHTS[100:])


@pytest.mark.parametrize(
    ("pattern", "fault", "times"),
    [
        ("PUT *", BreakOff(1000), 6),
        ("PUT *", Refuse(503), 6),
        ("PUT *", Corrupt(), 1),
        ("PUT *", Shorter(10), 1),
        ("POST */verify", Refuse(500), 1),
        ("POST */batch", TOO_MANY, 1),
        ("POST */preupload/*", Refuse(500), 1),
        ("POST */commit/*", BreakOff(10), 1),
        ("POST */commit/*", Refuse(503), 1),
    ],
)
def test_fault_of_an_upload_leaves_no_commit_and_the_next_try_works(
    hub, model, api, pattern, fault, times
):
    new = WEIGHTS[::-1]
    hub.fail(pattern, fault, times)
    with pytest.raises((requests.RequestException, RuntimeError)):
        api.create_commit(ID, [add("new.bin", new)], commit_message="new")
    assert model.files() == FILES
    api.create_commit(ID, [add("new.bin", new)], commit_message="new")
    assert model.files() == FILES | {"new.bin": new}


def test_upload_that_stalls_goes_on(hub, model, api):
    hub.fail("PUT *", Stall(after=10, seconds=0.1))
    api.create_commit(ID, [add("new.bin", WEIGHTS[::-1])], commit_message="new")
    assert model.files()["new.bin"] == WEIGHTS[::-1]


def test_faults_are_over_after_so_many_requests(hub, model):
    hub.fail("GET /api/*", Refuse(500), times=2)
    url = f"{hub.url}/api/models/{ID}"
    assert [requests.get(url).status_code for _ in range(3)] == [500, 500, 200]
