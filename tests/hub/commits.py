"""What changes a repository: commits, branches and tags."""

import base64
import json

from .faults import Answer
from .files import lfs_content
from .refusals import RefusedError, no_entry, readable
from .repository import StoredFile, is_lfs


def preupload(call):
    """For each file whether it goes to git or to the LFS store, and what is there by its name."""
    tree = call.commit.tree
    told = []
    for file in call.json["files"]:
        path, sample = file["path"], base64.b64decode(file["sample"])
        mode = "lfs" if is_lfs(path, file["size"], sample) else "regular"
        there = tree.get(path)
        told.append(
            {
                "path": path,
                "uploadMode": mode,
                "shouldIgnore": False,
                "oid": there.etag if there else None,
            }
        )
    return Answer.of(200, {"files": told})


def commit(call):
    """All changes of an NDJSON body, or none."""
    if call.query.get("create_pr"):
        raise RefusedError(400, "pull requests are not taken here: create_pr must be false")
    repository, branch = call.repository, call.revision
    if branch not in repository.branches:
        raise RefusedError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    head = repository.at(branch)
    lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", head.sha) != head.sha:
        raise RefusedError(412, "A commit has happened since. Please refresh and try again.")

    files, deleted = {}, []
    for line in lines:
        _apply(call.hub, head, line["key"], line["value"], files, deleted)
    made = repository.commit(files, deleted, header["summary"], header["description"], branch)
    url = f"{call.hub.url}/{repository.repo_id}/commit/{made.sha}"
    return Answer.of(200, {"success": True, "commitOid": made.sha, "commitUrl": url})


def _apply(hub, head, key, value, files, deleted):
    """Add one line of a commit to the files that it writes and those that it deletes."""
    path = value.get("path", "")
    if key == "deletedFolder":
        path = path.rstrip("/")
    if key == "header":
        return
    if not path or any(part in ("", ".", "..", ".git") for part in path.split("/")):
        raise RefusedError(400, f"no path for a file: {path!r}")
    if key == "file":
        files[path] = StoredFile(base64.b64decode(value["content"]), is_lfs=False)
    elif key == "lfsFile":
        files[path] = StoredFile(_uploaded(hub, value["oid"]), is_lfs=True)
    elif key == "deletedFile" and path in head.tree:
        deleted.append(path)
    elif key == "deletedFolder" and _below(head, path):
        deleted += _below(head, path)
    elif key in ("deletedFile", "deletedFolder"):
        raise no_entry(head, f"A file with this name doesn't exist: {path}")
    else:
        raise RefusedError(400, f"unknown change {key!r}")


def _uploaded(hub, oid):
    content = lfs_content(hub, oid)
    if content is None:
        raise RefusedError(400, f"the LFS object {oid} was not uploaded")
    return content


def _below(head, folder):
    return [path for path in head.tree if path.startswith(f"{folder}/")]


def create_branch(call):
    start = readable(call.repository, call.json.get("startingPoint") or "main")
    return _create(call.repository.branches, call.parts["name"], start)


def create_tag(call):
    return _create(call.repository.tags, call.json["tag"], call.commit)


def _create(names, name, start):
    if name in names:
        raise RefusedError(409, f"Reference already exists: {name}")
    names[name] = start.sha
    return Answer.of(200, {})


def delete_branch(call):
    if call.parts["name"] == "main":
        raise RefusedError(403, "main cannot be deleted")
    return _delete(call.repository.branches, call.parts["name"])


def delete_tag(call):
    return _delete(call.repository.tags, call.parts["name"])


def _delete(names, name):
    if names.pop(name, None) is None:
        raise RefusedError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    return Answer.of(200, {})
