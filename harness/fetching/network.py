"""The one place that reaches the network for files; it respects proxies, certificates and offline switches."""

from __future__ import annotations

import http.client
import os
from urllib.parse import urlsplit

import requests
import urllib3
from requests import exceptions

from harness import __version__
from harness.errors import UserError

MOST_REDIRECTS = 10
_TRUE = ("1", "on", "yes", "true")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class Failed(Exception):
    """An address gave no file; another address, or none, may. The message is one sentence without a full stop."""


class Broken(Failed):
    """The connection ended, stalled or was not made: worth another try."""

    def __init__(self, text: str, after_s: float | None = None):
        super().__init__(text)
        self.after_s = after_s
        """Seconds that the server asks to wait."""


def require_online(what: str) -> None:
    """Nothing may be transferred while a switch says offline.

    Raises:
        UserError: `HF_HUB_OFFLINE` (or `TRANSFORMERS_OFFLINE`) is set.
    """
    for name in OFFLINE:
        if os.environ.get(name, "").strip().lower() in _TRUE:
            raise UserError(
                f"{what} is not here, and {name}={os.environ[name]} forbids the network: unset it, or bring the file: "
                "from=FILE."
            )


def session() -> requests.Session:
    """A session; proxies (`HTTPS_PROXY`, `NO_PROXY`) and `REQUESTS_CA_BUNDLE` are requests' own business."""
    new_session = requests.Session()
    new_session.max_redirects = MOST_REDIRECTS
    new_session.headers.update(
        {"User-Agent": f"interactive-segmentation-bench/{__version__}", "Accept-Encoding": "identity"}
    )
    if not (os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")):
        new_session.verify = os.environ.get("SSL_CERT_FILE") or True
    return new_session


def failure(error: BaseException, url: str) -> Failed:
    """What an exception of requests means, as one sentence."""
    host = urlsplit(url).netloc or url
    reason = _reason(error)
    if isinstance(error, exceptions.TooManyRedirects):
        return Failed(f"{host} redirects in a circle (more than {MOST_REDIRECTS} times)")
    if isinstance(error, exceptions.SSLError):
        return Failed(
            f"{host}: its certificate is not trusted here ({reason}); behind a proxy with a certificate of its own set "
            "REQUESTS_CA_BUNDLE=FILE"
        )
    if isinstance(error, exceptions.ProxyError):
        return Broken(f"the proxy for {host} does not answer ({reason}); look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
    if isinstance(error, (exceptions.InvalidSchema, exceptions.InvalidURL, exceptions.MissingSchema)):
        return Failed(f"{host} leads to what is no web address ({reason})")
    if (left := _left(error)) is not None:
        return Broken(f"{host} ended in the middle of the file, {left:,} bytes before its end")
    if isinstance(error, OSError) and not isinstance(error, exceptions.RequestException) and "CA" in str(error):
        return Failed(f"{reason}; look at REQUESTS_CA_BUNDLE and SSL_CERT_FILE")
    if isinstance(error, exceptions.ConnectionError):
        return Broken(f"no connection to {host} ({reason})")
    return Broken(f"{host}: {reason}")


def timed_out(error: BaseException) -> bool:
    """Whether an exception of requests or urllib3 says that time ran out."""
    return isinstance(error, (exceptions.Timeout, TimeoutError, urllib3.exceptions.TimeoutError))


def _left(error: BaseException) -> int | None:
    """Bytes that an interrupted answer still owed; None for other errors, or where nobody knows."""
    inner = next((a for a in error.args if isinstance(a, BaseException)), error)
    for one in (error, inner, *inner.args):
        if isinstance(one, (urllib3.exceptions.IncompleteRead, http.client.IncompleteRead)):
            return int(one.expected) if one.expected else None
    return None


def _reason(error: BaseException) -> str:
    """The innermost cause, without the addresses of objects that urllib3 writes."""
    inner: BaseException = error
    for _ in range(8):
        following = getattr(inner, "reason", None)
        if not isinstance(following, BaseException):
            following = next((a for a in reversed(inner.args) if isinstance(a, BaseException)), None)
        if following is None:
            break
        inner = following
    text = str(inner)
    for mark in ("object at 0x", "): "):
        if mark in text and "0x" in text:
            text = text.rpartition(": ")[2]
    return " ".join(text.split())[:200] or type(inner).__name__
