"""Repositories as a whole: made, deleted and described."""

import re

import yaml

from .faults import Answer
from .refusals import RefusedError, no_entry, repository_of

FRONT_MATTER = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)


def create(call):
    """RefusedError with 409 where there is one; the client then decides by `exist_ok`."""
    asked = call.json
    if asked.get("type", "model") != "model":
        raise RefusedError(400, "only models are kept here")
    repo_id = f"{asked.get('organization') or call.user}/{asked['name']}"
    url = {"url": f"{call.hub.url}/{repo_id}"}
    if repo_id in call.hub.repositories:
        return Answer.of(409, url | {"error": "You already created this model repo"})
    call.hub.create(repo_id, private=bool(asked.get("private")))
    return Answer.of(200, url)


def delete(call):
    asked = call.json
    call.parts["repo_id"] = f"{asked.get('organization') or call.user}/{asked['name']}"
    del call.hub.repositories[repository_of(call).repo_id]
    return Answer.of(200, {})


def whoami(call):
    if call.user is None:
        raise RefusedError(401, "Invalid username or password.")
    auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
    return Answer.of(
        200, {"type": "user", "name": call.user, "fullname": call.user, "orgs": [], "auth": auth}
    )


def validate_yaml(call):
    """As far as this: the metadata are a mapping, if there are any."""
    try:
        card = card_data(call.json["content"])
    except ValueError as error:
        return Answer.of(400, {"errors": [{"message": str(error)}], "warnings": []})
    warning = {"message": "empty or missing yaml metadata in repo card"}
    return Answer.of(200, {"errors": [], "warnings": [] if card else [warning]})


def card_data(text):
    """The metadata at the top of a README.md, {} without any; ValueError where they are no YAML."""
    found = FRONT_MATTER.match(text)
    if found is None:
        return {}
    try:
        card = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"YAML: {error}") from error
    if not isinstance(card, dict):
        raise ValueError(f"the metadata must be a mapping, not {type(card).__name__}")
    return card


def model(call):
    """Told of gated repositories to everybody, with the names of their files."""
    repository, commit = call.repository, call.commit
    readme = commit.tree.get("README.md")
    try:
        card = card_data(readme.content.decode()) if readme else {}
    except ValueError:  # as the real Hub, which takes such a card, by git, and reads nothing off it
        card = {}
    blobs = "blobs" in call.query
    siblings = [_sibling(path, file, blobs) for path, file in sorted(commit.tree.items())]
    facts = {
        "id": repository.repo_id,
        "modelId": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": commit.sha,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": card.get("tags", []),
        "cardData": card,
        "siblings": siblings,
    }
    return Answer.of(200, facts | {key: card[key] for key in ("pipeline_tag",) if key in card})


def _sibling(path, file, blobs):
    if not blobs:
        return {"rfilename": path}
    facts = {"rfilename": path, "size": len(file.content), "blobId": file.git_oid}
    if file.is_lfs:
        facts["lfs"] = {"sha256": file.etag} | _lfs_sizes(file)
    return facts


def _lfs_sizes(file):
    return {"size": len(file.content), "pointerSize": len(file.pointer)}


def refs(call):
    repository = call.repository

    def told(names, kind):
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha}
            for name, sha in names.items()
        ]

    branches, tags = told(repository.branches, "heads"), told(repository.tags, "tags")
    return Answer.of(200, {"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


def tree(call):
    """Files and folders below a path, with those of all depths if `recursive`."""
    commit, root = call.commit, call.parts["path"] or ""
    prefix = f"{root}/" if root else ""
    deep = call.query.get("recursive") in (["True"], ["true"], ["1"])
    entries = [_folder(path) for path in call.repository.folders(call.revision)]
    entries += [_file(path, file) for path, file in sorted(commit.tree.items())]
    below = [entry for entry in entries if entry["path"].startswith(prefix)]
    if root and not below:
        raise no_entry(commit, root)
    return Answer.of(
        200, [entry for entry in below if deep or "/" not in entry["path"].removeprefix(prefix)]
    )


def _folder(path):
    return {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}


def _file(path, file):
    facts = {"type": "file", "path": path, "oid": file.git_oid, "size": len(file.content)}
    return facts | ({"lfs": {"oid": file.etag} | _lfs_sizes(file)} if file.is_lfs else {})
