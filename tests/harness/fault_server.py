"""A real HTTP server on loopback whose files misbehave as the network does; used by the tests of fetching."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server has, and what it was asked.

    Attributes:
        pages: path -> function that answers a request.
        requests: (path, Range header or "") of every request.
    """

    address: str = ""
    pages: dict[str, Callable[[Handler], None]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}{path}"

    def asked(self, path: str) -> list[str]:
        """The Range headers of the requests for a path."""
        return [span for asked, span in self.requests if asked == path]


class Handler(BaseHTTPRequestHandler):
    """Answers from `server.site`."""

    protocol_version = "HTTP/1.1"

    @property
    def site(self) -> Site:
        return self.server.site  # type: ignore[attr-defined]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.site.requests.append((path, self.headers.get("Range", "")))
        page = self.site.pages.get(self.path) or self.site.pages.get(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            (page or status(404))(self)
        self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        """Silence."""

    def begin(self, code: int, **headers: object) -> None:
        self.send_response(code)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def put(self, body: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(body)
            self.wfile.flush()


def status(code: int, **headers: object) -> Callable[[Handler], None]:
    """An answer without a file."""
    return lambda handler: (handler.begin(code, Content_Length=0, **headers), None)[1]


def redirect(to: str) -> Callable[[Handler], None]:
    return status(302, Location=to)


def page(text: str, code: int = 200, kind: str = "text/html; charset=utf-8") -> Callable[[Handler], None]:
    """A text for people."""
    body = text.encode()

    def answer(handler: Handler) -> None:
        handler.begin(code, Content_Type=kind, Content_Length=len(body))
        handler.put(body)

    return answer


class File:
    """A file; by default served as a good server does, with ranges and an ETag.

    Args:
        body: its content.
        ranges: whether Range is understood.
        cut: the first so many answers end after `cut_at` bytes of what they promise.
        etag: False: no validator at all.
        length: whether Content-Length is sent; else the end of the connection is the end of the file.
        chunked: Transfer-Encoding: chunked; `cut` then ends without the last chunk.
        pause: seconds before each `piece` bytes.
        hold: called before the body; to kill or to wait.
    """

    def __init__(
        self, body: bytes, ranges: bool = True, cut: int = 0, cut_at: int | None = None, etag: bool = True,
        length: bool = True, chunked: bool = False, pause: float = 0.0, piece: int = 1 << 14,
        kind: str = "application/octet-stream",
        hold: Callable[[], None] | None = None, encoding: str = "",
    ):  # fmt: skip
        self.body, self.ranges, self.cut, self.cut_at, self.etag = body, ranges, cut, cut_at, etag
        self.length, self.chunked, self.pause, self.piece, self.kind = length, chunked, pause, piece, kind
        self.hold, self.encoding = hold, encoding

    def __call__(self, handler: Handler) -> None:
        start, code = 0, 200
        headers: dict[str, object] = {"Content_Type": self.kind}
        tag = f'"{hashlib.md5(self.body).hexdigest()}"'
        span = handler.headers.get("Range")
        if self.etag:
            headers["ETag"] = tag
        if self.encoding:
            headers["Content_Encoding"] = self.encoding
        if self.ranges and span and handler.headers.get("If-Range", tag) == tag:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.body):
                handler.begin(416, Content_Range=f"bytes */{len(self.body)}", Content_Length=0)
                return
            code = 206
            headers["Content_Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        rest = self.body[start:]
        if self.chunked:
            headers["Transfer_Encoding"] = "chunked"
        elif self.length:
            headers["Content_Length"] = len(rest)
        handler.begin(code, **headers)
        if self.hold:
            self.hold()
        if self.cut > 0:
            self.cut -= 1
            rest = rest[: self.cut_at if self.cut_at is not None else len(rest) // 2]
            complete = False
        else:
            complete = True
        for at in range(0, len(rest), self.piece):
            if self.pause:
                time.sleep(self.pause)
            block = rest[at : at + self.piece]
            handler.put(f"{len(block):x}\r\n".encode() + block + b"\r\n" if self.chunked else block)
        if self.chunked and complete:
            handler.put(b"0\r\n\r\n")


def serve() -> tuple[Site, ThreadingHTTPServer]:
    """Start a server on a free port of loopback; `server.shutdown()` ends it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = Site(f"http://127.0.0.1:{server.server_address[1]}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server.site, server  # type: ignore[attr-defined]
