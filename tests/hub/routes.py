"""Addresses of the Hub's interface -> what answers them."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from . import commits, files, info
from .faults import Answer
from .refusals import RefusedError, readable, repository_of, require_user

MODEL = r"(?P<repo_id>[^/]+/[^/]+)"
API = f"/api/models/{MODEL}"
STORE = f"/{MODEL}.git/lfs/(?P<oid>[0-9a-f]{{64}})"

ROUTES = (
    ("POST", "/api/repos/create", info.create),
    ("DELETE", "/api/repos/delete", info.delete),
    ("GET", "/api/whoami-v2", info.whoami),
    ("POST", "/api/validate-yaml", info.validate_yaml),
    ("GET", API, info.model),
    ("GET", f"{API}/revision/(?P<revision>[^/]+)", info.model),
    ("GET", f"{API}/refs", info.refs),
    ("GET", f"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", info.tree),
    ("POST", f"{API}/branch/(?P<name>[^/]+)", commits.create_branch),
    ("DELETE", f"{API}/branch/(?P<name>[^/]+)", commits.delete_branch),
    ("POST", f"{API}/tag/(?P<revision>[^/]+)", commits.create_tag),
    ("DELETE", f"{API}/tag/(?P<name>[^/]+)", commits.delete_tag),
    ("POST", f"{API}/preupload/(?P<revision>[^/]+)", commits.preupload),
    ("POST", f"{API}/commit/(?P<revision>[^/]+)", commits.commit),
    ("POST", f"/{MODEL}.git/info/lfs/objects/batch", files.lfs_batch),
    ("PUT", STORE, files.lfs_put),
    ("POST", f"{STORE}/verify", files.lfs_verify),
    ("HEAD", f"/{MODEL}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", files.resolve),
    ("GET", f"/{MODEL}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", files.resolve),
)
# Whoever is nobody may read, check a card, and put an object that a batch announced: the store that
# the real Hub names for that is told apart by the signature in its address.
OPEN_TO_ALL = (info.validate_yaml, files.lfs_put)


@dataclass(frozen=True)
class Call:
    """A request that has found its route; `user` is None for one without a token."""

    hub: Any
    user: str | None
    body: bytes
    headers: Any
    query: dict
    parts: dict
    """Named parts of the address, without quoting."""

    @property
    def json(self):
        return json.loads(self.body or b"{}")

    @property
    def repository(self):
        """Raises `RefusedError` where there is none that the user may see."""
        return repository_of(self)

    @property
    def revision(self):
        return self.parts.get("revision") or "main"

    @property
    def commit(self):
        """The commit of the revision asked for; raises `RefusedError` where there is none."""
        return readable(self.repository, self.revision)


def answer_to(hub, method, split, headers, user, body) -> Answer:
    for route_method, pattern, handle in ROUTES:
        found = re.fullmatch(pattern, split.path) if route_method == method else None
        if found:
            parts = {key: part and unquote(part) for key, part in found.groupdict().items()}
            call = Call(hub, user, body, headers, parse_qs(split.query), parts)
            return _handled(handle, call, reads=method in ("GET", "HEAD"))
    message = f"no {method} {split.path} here"
    return Answer.of(404, {"error": message}, X_Error_Message=message)


def _handled(handle, call, reads):
    try:
        if not reads and handle not in OPEN_TO_ALL:
            require_user(call)
        return handle(call)
    except RefusedError as refused:
        return refused.answer
