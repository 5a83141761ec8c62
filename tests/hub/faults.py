"""What may go wrong with a request, on the way up and on the way down.

A fault takes part twice: `receive` reads the request's body, `send` sends the answer. Where
`answer` gives one, the Hub is not asked. The plain `Fault` is none.
"""

import json
from dataclasses import dataclass, field
from typing import NamedTuple

from .serving import send


class Answer(NamedTuple):
    """What is sent in return."""

    status: int
    body: bytes
    headers: dict

    @classmethod
    def of(cls, status, content=b"", **headers):
        """`Answer.of(404, X_Error_Code="EntryNotFound")`; content: bytes, or what JSON can say."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if not isinstance(content, bytes):
            headers = {"Content-Type": "application/json", **headers}
            content = json.dumps(content).encode()
        return cls(status, content, headers)


class Fault:
    """Everything goes well."""

    def receive(self, handler, length, released):
        """The request's body, of `length` bytes."""
        return handler.rfile.read(length)

    def answer(self):
        """An answer in the Hub's stead, or None."""

    def send(self, handler, answer, released):
        send(handler, *_parts(answer))


@dataclass(frozen=True)
class BreakOff(Fault):
    """The connection is closed after so many bytes of the upload, or else of the download."""

    after: int

    def receive(self, handler, length, released):
        if length:
            handler.rfile.read(min(length, self.after))
            raise ConnectionAbortedError
        return b""

    def send(self, handler, answer, released):
        status, body, headers = _parts(answer)
        send(handler, status, body[: self.after], headers, length=len(body))


@dataclass(frozen=True)
class Stall(Fault):
    """Nothing moves for some seconds after so many bytes of the upload, or else of the download."""

    after: int = 0
    seconds: float = 60.0

    def receive(self, handler, length, released):
        if not length:
            return b""
        begin = handler.rfile.read(min(length, self.after))
        released.wait(self.seconds)
        return begin + handler.rfile.read(length - len(begin))

    def send(self, handler, answer, released):
        status, body, headers = _parts(answer)
        if handler.headers.get("Content-Length", "0") != "0":
            return send(handler, status, body, headers)
        send(handler, status, body[: self.after], headers, length=len(body))
        handler.wfile.flush()
        released.wait(self.seconds)
        return handler.wfile.write(b"" if handler.command == "HEAD" else body[self.after :])


@dataclass(frozen=True)
class Corrupt(Fault):
    """As many bytes, but others: every second one of the first hundred is another."""

    def receive(self, handler, length, released):
        return _other(handler.rfile.read(length))

    def send(self, handler, answer, released):
        status, body, headers = _parts(answer)
        uploaded = handler.headers.get("Content-Length", "0") != "0"
        send(handler, status, body if uploaded else _other(body), headers)


@dataclass(frozen=True)
class Shorter(Fault):
    """So many bytes are missing at the end, and the Content-Length is that of the rest."""

    by: int

    def receive(self, handler, length, released):
        return handler.rfile.read(length)[: -self.by]

    def send(self, handler, answer, released):
        status, body, headers = _parts(answer)
        uploaded = handler.headers.get("Content-Length", "0") != "0"
        send(handler, status, body if uploaded else body[: -self.by], headers)


@dataclass(frozen=True)
class Refuse(Fault):
    """Another status, instead of what was asked for."""

    status: int
    headers: dict = field(default_factory=dict)

    def answer(self):
        return Answer.of(self.status, **self.headers)


TOO_MANY = Refuse(429, {"Retry-After": "1"})
GATED = Refuse(403, {"X-Error-Code": "GatedRepo"})


def _parts(answer):
    return answer.status, answer.body, answer.headers


def _other(content):
    flipped = bytes(byte ^ 0xFF for byte in content[:100:2])
    changed = bytearray(content)
    changed[:100:2] = flipped
    return bytes(changed)
