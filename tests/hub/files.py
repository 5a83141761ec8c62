"""Content on its way down (`resolve`) and up (the LFS store)."""

import re

from .faults import Answer
from .refusals import RefusedError, no_entry, require_access
from .repository import sha256_of


def resolve(call):
    """A file, whole or the part that Range asks for."""
    repository, commit = call.repository, call.commit
    require_access(call, repository)
    file = commit.tree.get(call.parts["path"])
    if file is None:
        raise no_entry(commit, call.parts["path"])
    headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    if file.is_lfs:
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.content))}
    part = _part(call.headers, len(file.content), headers["ETag"])
    if part is None:
        return Answer(200, file.content, headers)
    if not part:
        headers["Content-Range"] = f"bytes */{len(file.content)}"
        return Answer(416, b"", headers)
    headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{len(file.content)}"
    return Answer(206, file.content[part[0] : part[-1] + 1], headers)


def _part(headers, size, etag):
    """The indices of the bytes asked for; None for all of them."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("Range", ""))
    if asked is None or asked.groups() == ("", "") or headers.get("If-Range", etag) != etag:
        return None
    first, last = asked.groups()
    if not first:
        return range(max(size - int(last), 0), size)
    return range(int(first), min(int(last) + 1 if last else size, size))


def lfs_batch(call):
    """Where to put the objects that the store lacks."""
    asked, repository = call.json, call.repository
    if asked["operation"] != "upload" or "basic" not in asked["transfers"]:
        raise RefusedError(400, "only uploads by the transfer 'basic' are taken here")
    objects = [_upload_of(call.hub, repository, object_) for object_ in asked["objects"]]
    return Answer.of(200, {"transfer": "basic", "objects": objects})


def _upload_of(hub, repository, object_):
    oid, size = object_["oid"], object_["size"]
    if _has(hub, oid):
        return {"oid": oid, "size": size}
    hub.announced[oid] = size
    href = f"{hub.url}/{repository.repo_id}.git/lfs/{oid}"
    actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
    return {"oid": oid, "size": size, "authenticated": True, "actions": actions}


def _has(hub, oid):
    """Objects count that came by an upload, and those of the files that tests have put there."""
    return oid in hub.lfs or any(file.etag == oid for file in _lfs_files(hub))


def _lfs_files(hub):
    for repository in hub.repositories.values():
        for commit in repository.commits:
            yield from (file for file in commit.tree.values() if file.is_lfs)


def lfs_content(hub, oid):
    """The object, or None."""
    if oid in hub.lfs:
        return hub.lfs[oid]
    return next((file.content for file in _lfs_files(hub) if file.etag == oid), None)


def lfs_put(call):
    oid = call.parts["oid"]
    if call.hub.announced.get(oid) is None:
        raise RefusedError(403, "no batch announced this object")
    if len(call.body) != call.hub.announced[oid] or sha256_of(call.body) != oid:
        raise RefusedError(400, f"the object is not that with the SHA-256 {oid}")
    call.hub.lfs[oid] = call.body
    return Answer.of(200)


def lfs_verify(call):
    asked = call.json
    if len(call.hub.lfs.get(asked["oid"], b"")) != asked["size"]:
        raise RefusedError(404, "no such object came")
    return Answer.of(200, {})
