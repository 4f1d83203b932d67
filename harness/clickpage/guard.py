"""Who may talk to the page: this machine's browser, on this page, and nobody else.

A page on loopback can be reached by every web site that the user visits: by a form or a script of the site (the browser
then says so in `Origin` or `Sec-Fetch-Site`), or under a name of the site's own that resolves to 127.0.0.1 (`Host` is
then that name). So both are checked, and the answers forbid everything that the page does not need.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LARGEST_BODY = 4096
_SAFE = ("GET", "HEAD")


def names_of(host: str, port: int) -> frozenset[str]:
    """Values of `Host` under which a server on this address is reached.

    >>> sorted(names_of("127.0.0.1", 8765))
    ['127.0.0.1:8765', '[::1]:8765', 'localhost:8765']
    >>> sorted(names_of("192.168.1.5", 80))
    ['192.168.1.5', '192.168.1.5:80']
    """
    hosts = ["127.0.0.1", "localhost", "::1"] if is_loopback(host) else [host]
    shown = [f"[{name}]" if ":" in name else name for name in hosts]
    return frozenset([f"{name}:{port}" for name in shown] + (shown if port == 80 else []))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in ("localhost", "::1") or host.startswith("127.")


class Guard:
    """Middleware that refuses requests of other sites and sets the headers of every answer.

    Args:
        app: the page.
        names: allowed values of `Host`; their origins are the allowed origins.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]):
        self._app = app
        self._names = frozenset(names)
        self._origins = frozenset(f"http://{name}" for name in self._names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        why = self._refusal(scope["method"], Headers(scope=scope), scope["path"])

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = PlainTextResponse(why, status_code=403) if why else self._app
        await app(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Headers, path: str) -> str:
        """Why a request is refused, or ""."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if len(headers.getlist("host")) != 1 or host.lower() not in self._names:
            return f"This page is not served under this name. Open http://{sorted(self._names)[0]}/"
        if origin is not None and origin.lower() not in self._origins:
            return "Requests of other sites are refused."
        site = headers.get("sec-fetch-site", "same-origin")
        if path != "/" and site not in ("same-origin", "none"):
            return "Requests of other sites are refused."
        if method in _SAFE:
            return ""
        if origin is None:
            return "A request that changes something must say its Origin."
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return "Send JSON (Content-Type: application/json)."
        return ""
