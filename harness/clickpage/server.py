"""Serves a desk: the port is taken before any model is built, so that a taken one is said at once."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from harness.errors import UserError


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; port 0: any free one.

    Raises:
        UserError: the port is in use or not allowed, or the address is none of this machine's.
    """
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError as error:
        raise UserError(f"host={host!r} is no IP address. The default is 127.0.0.1, this machine alone.") from error
    if address.is_unspecified:
        raise UserError(
            f"host={host}: give the very address by which the page is opened, for example host=192.168.1.5; other "
            "names are refused, so that no web site can reach the page through a name of its own."
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((str(address), port))
        listening.listen(64)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port={port} is in use, perhaps by another harness.click. Give another one, for example "
                f"port={port + 1 if port < 65535 else port - 1}, or port=0 for any free one."
            ) from error
        raise UserError(f"cannot listen on host={host} port={port}: {error.strerror or error}.") from error
    return listening


def serve(app: ASGIApp, listening: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until the process is asked to end (Ctrl-C, SIGTERM).

    Args:
        ready: called when the page can be opened.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=2,
        http="h11",
        ws="none",
        limit_concurrency=64,
    )
    Server(config).run(sockets=[listening])
