"""A server of one file on the loopback, which misbehaves when told to."""

import re

from tests.hub.serving import send


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
