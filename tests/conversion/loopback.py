"""Servers on the loopback: one of files, which misbehaves when told to, and a small Hub."""

import contextlib
import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `content` under every path.

    statuses: sent to the next requests, instead of the file
    breaks_after: the next answers to GET break off after so many bytes
    sends_parts: whether it honours Range
    announced: the length that HEAD tells, if another than that of the content
    log: (method, first byte asked for or None), of every request
    """

    def __init__(self, content):
        self.content = content
        self.etag = '"first"'
        self.statuses = []
        self.breaks_after = []
        self.sends_parts = True
        self.announced = None
        self.log = []

    @property
    def starts(self):
        """First bytes asked for by the GET requests."""
        return [start for method, start in self.log if method == "GET"]

    def answer(self, handler):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        self.log.append((handler.command, int(asked[1]) if asked else None))
        if self.statuses:
            return send(handler, self.statuses.pop(0), b"", {})
        start = int(asked[1]) if asked and self.sends_parts else 0
        body = self.content[start:]
        headers = {"ETag": self.etag} if self.etag else {}
        if handler.command == "HEAD":
            return send(handler, 200, body, headers, self.announced)
        if start:
            last = len(self.content) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(self.content)}"
        kept = self.breaks_after.pop(0) if self.breaks_after else len(body)
        return send(handler, 206 if start else 200, body[:kept], headers, len(body))


class Hub:
    """Model repositories {id: {file name: content}}, as the Hub's HTTP interface gives them."""

    def __init__(self, repositories):
        self.repositories = repositories
        self.fetched = []

    def answer(self, handler):
        if found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/revision/(\w+)", handler.path):
            return self._tell(handler, *found.groups())
        hub_id, name = re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/\w+/(.+)", handler.path).groups()
        content = self.repositories[hub_id][name]
        if handler.command == "GET":
            self.fetched.append(name)
        etag = hashlib.sha256(content).hexdigest()
        return send(handler, 200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": "c" * 40})

    def _tell(self, handler, hub_id, revision):
        if hub_id not in self.repositories:
            return send(handler, 404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision != "main":
            return send(handler, 404, b"", {"X-Error-Code": "RevisionNotFound"})
        siblings = ", ".join(f'{{"rfilename": "{name}"}}' for name in self.repositories[hub_id])
        body = f'{{"id": "{hub_id}", "sha": "{"c" * 40}", "siblings": [{siblings}]}}'
        return send(handler, 200, body.encode(), {"Content-Type": "application/json"})


def send(handler, status, body, headers, length=None):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.send_header("Connection", "close")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


@contextlib.contextmanager
def serving(site):
    """The address of a server whose requests `site.answer(handler)` answers."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.answer(self)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
