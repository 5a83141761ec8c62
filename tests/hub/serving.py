"""HTTP on the loopback: a site is anything whose `answer(handler)` answers requests."""

import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LoopbackServer(ThreadingHTTPServer):
    """Listens from its making on, and answers once `start` was called."""

    request_queue_size = 64

    def __init__(self, site):
        super().__init__(("127.0.0.1", 0), _handler_class(site))
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def start(self):
        """Answer in a thread that ends with the process, or with `shutdown`."""
        thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        return thread

    def handle_error(self, request, client_address):
        """A client that went away is none of the server's errors."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler_class(site):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            site.answer(self)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_arguments):
            pass

    return Handler


def send(handler, status, body, headers, length=None):
    """Answer a request; `length` is announced where it is not that of the body."""
    handler.close_connection = True
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
    with LoopbackServer(site) as server:
        thread = server.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()
