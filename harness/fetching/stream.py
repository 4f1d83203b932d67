"""An answer, read in a thread of its own, so that nobody who answers a byte at a time holds the command."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import requests

from harness.fetching import network

CHUNK = 1 << 16
LEAST_RATE = 256
"""Bytes a second, on average over `timeout_s`, below which a server counts as not answering."""
_GZIP_NAMES = (".gz", ".tgz")


class Stream:
    """GET of an address: `response` after the headers, then the chunks of the body. A context manager.

    Args:
        url: of a file.
        headers: of the request.
        timeout_s: for the headers (redirects included), for every pause, and to bring LEAST_RATE bytes a second.

    Raises:
        Broken: no answer, an answer that is too slow, or one that ends early.
        Failed: no address, an endless redirect, a certificate.
    """

    def __init__(self, session: requests.Session, url: str, headers: Mapping[str, str], timeout_s: float):
        self.url, self.timeout_s = url, timeout_s
        self._session, self._headers = session, dict(headers)
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=64)
        self._closed = threading.Event()
        self._window, self._since = 0, time.monotonic()
        threading.Thread(target=self._work, name=f"fetch {url}", daemon=True).start()
        answer = self._next(2 * timeout_s, "an answer")
        assert isinstance(answer, requests.Response)
        self.response = answer

    @property
    def decoded(self) -> bool:
        """Whether the body is unpacked on its way, so that its bytes are not those that the server counts."""
        coding = self.response.headers.get("Content-Encoding", "").strip().lower()
        # Some servers call the .gz of a .tar.gz an encoding; the file that was asked for is the packed one.
        packed = coding in ("gzip", "x-gzip") and self.response.url.partition("?")[0].lower().endswith(_GZIP_NAMES)
        return coding not in ("", "identity") and not packed

    def chunks(self) -> Iterator[bytes]:
        """The body; never waits longer than `timeout_s`."""
        self._window, self._since = 0, time.monotonic()
        while (chunk := self._next(self.timeout_s, "more")) is not None:
            self._window += len(chunk)
            spent = time.monotonic() - self._since
            if spent >= self.timeout_s:
                if self._window < LEAST_RATE * spent:
                    raise self._slow(f"{self._window} bytes in {spent:.0f} s")
                self._window, self._since = 0, time.monotonic()
            yield chunk

    def _next(self, seconds: float, what: str) -> Any:
        try:
            item = self._queue.get(timeout=seconds)
        except queue.Empty:
            raise self._slow(f"did not give {what} within {seconds:g} s") from None
        if isinstance(item, BaseException) and network.timed_out(item):
            raise self._slow(f"did not give {what} within {self.timeout_s:g} s") from item
        if isinstance(item, BaseException):
            raise network.failure(item, self.url) from item
        return item

    def _slow(self, what: str) -> network.Broken:
        host = network.urlsplit(self.url).netloc
        return network.Broken(f"{host}: {what} (timeout_s={self.timeout_s:g}; give timeout_s=N to wait longer)")

    def _work(self) -> None:
        """In the thread: the request, then chunk after chunk, as they come."""
        try:
            response = self._session.get(
                self.url, headers=self._headers, stream=True, timeout=(self.timeout_s, self.timeout_s)
            )
            with contextlib.closing(response):
                if not self._put(response):
                    return
                for chunk in _body(response, self):
                    if not self._put(chunk):
                        return
                self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=0.1)
                return True
        return False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()


def _body(response: requests.Response, stream: Stream) -> Iterator[bytes]:
    stream.response = response
    if stream.decoded:
        yield from response.iter_content(CHUNK)
        return
    # read1 gives what is there; read would wait until a whole chunk has dripped in.
    read = getattr(response.raw, "read1", None)
    while chunk := read(CHUNK, decode_content=False) if read else response.raw.read(1024, decode_content=False):
        yield chunk
