"""A small Hugging Face Hub: what huggingface_hub asks of it, answered from memory.

Model repositories only, uploads as LFS ("basic") and never Xet, no pull requests. A fault may be
put between any request and its answer.
"""

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import unquote, urlsplit

from .faults import Answer, Fault
from .repository import Repository
from .routes import answer_to
from .serving import LoopbackServer

TOKEN = "hf_loopback"
"""Accepted from the start, as that of `USER`."""
USER = "owner"


@dataclass(frozen=True)
class Request:
    """One entry of the log.

    path: without quoting and query
    range: the Range header, or None
    token: that of the Authorization header, or None
    """

    method: str
    path: str
    range: str | None = None
    token: str | None = None


class LoopbackHub:
    """A Hub that listens on the loopback as soon as it is made, and answers after `start`.

    repositories: {id: Repository}
    tokens: {accepted token: user name}
    log: every request, in the order of their coming
    lfs: {SHA-256: content} of large files that were uploaded
    announced: {SHA-256: size} of those that may be
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.server = LoopbackServer(self)
        self.url = self.server.url
        self._released = threading.Event()
        self.reset()

    def reset(self):
        """Forget everything, and let go of requests that stall."""
        self._released.set()
        self._released = threading.Event()
        with self.lock:
            self.repositories = {}
            self.tokens = {TOKEN: USER}
            self.log = []
            self.lfs = {}
            self.announced = {}
            self._faults = []

    def start(self):
        self.server.start()

    def create(self, repo_id, files=None, private=False, gated=False) -> Repository:
        """A repository with these files, {path: bytes}, in one commit."""
        repository = Repository(repo_id, private=private, gated=gated)
        if files:
            repository.commit(files, title="upload")
        self.repositories[repo_id] = repository
        return repository

    def fail(self, pattern, fault, times=1):
        """Let the next `times` requests go wrong whose "METHOD /path" `pattern` matches.

        pattern: as for file names, with "*" for anything; the path is not quoted
        fault: of `faults`
        """
        with self.lock:
            self._faults.append([pattern, fault, times])

    def mend(self):
        """Forget the faults that have not happened yet."""
        with self.lock:
            self._faults.clear()

    def requests(self, pattern="*"):
        """Those of the log whose "METHOD /path" `pattern` matches."""
        return [each for each in self.log if fnmatchcase(f"{each.method} {each.path}", pattern)]

    def answer(self, handler):
        """Answer one request; called by the server, in a thread for each connection."""
        split = urlsplit(handler.path)
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ") or None
        path = unquote(split.path)
        request = Request(handler.command, path, handler.headers.get("Range"), token)
        with self.lock:
            self.log.append(request)
            fault = self._next_fault(f"{request.method} {request.path}")
        released = self._released
        body = fault.receive(handler, int(handler.headers.get("Content-Length", 0)), released)
        answer = fault.answer()
        if answer is None:
            with self.lock:
                answer = self._answer(handler, split, token, body)
        fault.send(handler, answer, released)

    def _answer(self, handler, split, token, body) -> Answer:
        if token is not None and token not in self.tokens:
            message = "Invalid credentials in Authorization header"
            return Answer.of(401, {"error": message}, X_Error_Message=message)
        user = self.tokens.get(token)
        return answer_to(self, handler.command, split, handler.headers, user, body)

    def _next_fault(self, request):
        for entry in self._faults:
            pattern, fault, times = entry
            if times > 0 and fnmatchcase(request, pattern):
                entry[2] -= 1
                return fault
        return Fault()
