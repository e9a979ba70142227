"""A web server whose answers a test decides."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Answer = Callable[["Request"], None]


class Request(http.server.BaseHTTPRequestHandler):
    """One request. `answer` writes the response; `log` lists the requests so far as (method, path)."""

    protocol_version = "HTTP/1.1"
    answer: Answer
    log: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.log.append((self.command, self.path))
        self.close_connection = True
        type(self).answer(self)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def send(self, status: int, body: bytes = b"", **headers: Any) -> None:
        """Send a response with a length. headers: their names, with `_` for `-`"""
        self._start(status, {"Content-Length": len(body), **headers})
        if self.command == "GET":
            self.wfile.write(body)

    def send_in_chunks(self, body: bytes, *, is_whole: bool = True) -> None:
        """Send a response without a length, as one chunk. is_whole: whether to send the end, too"""
        self._start(200, {"Transfer-Encoding": "chunked"})
        if self.command == "GET":
            self.wfile.write(b"%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if is_whole else b""))

    def send_part(self, body: bytes) -> None:
        """Send the part that the request asks for, or everything."""
        if "Range" not in self.headers:
            self.send(200, body, Accept_Ranges="bytes")
            return
        start, end = (int(text) for text in self.headers["Range"].removeprefix("bytes=").split("-"))
        part = body[start : end + 1]
        self.send(206, part, Content_Range=f"bytes {start}-{start + len(part) - 1}/{len(body)}")

    def _start(self, status: int, headers: dict[str, Any]) -> None:
        self.send_response(status)
        for name, value in {"Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Serve on this machine, in a thread. Yields `http://127.0.0.1:PORT` and the list of requests."""
    log: list[tuple[str, str]] = []
    handler = type("Handler", (Request,), {"answer": staticmethod(answer), "log": log})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", log
        server.shutdown()
