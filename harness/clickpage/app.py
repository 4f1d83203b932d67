"""The page's addresses. Every action is answered by lines of JSON: the state at once, then each variant's answer."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from harness.clickpage import masks
from harness.clickpage.desk import Desk
from harness.clickpage.guard import LARGEST_BODY, Guard
from harness.clickpage.overlays import Box, Cells
from harness.clickpage.pane import Reply
from harness.clickpage.turns import Outdated, State, Turn
from harness.errors import UserError
from harness.segmenter import Click

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
DEVICES = ("pc", "mobile")


class BadRequest(Exception):
    """The request is not one that the page sends."""


def make_app(desk: Desk, names: Iterable[str]) -> ASGIApp:
    """The page of a desk, behind its guard.

    Args:
        names: values of `Host` under which it is served.
    """
    page = _Page(desk)
    static = resources.files(__package__) / "static"
    files = {item.name: item.read_bytes() for item in static.iterdir() if item.name.rpartition(".")[2] in _TYPES}

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "page.html")
        if name not in files:
            return Response("no such file", 404, media_type="text/plain")
        return Response(files[name], media_type=_TYPES[name.rpartition(".")[2]])

    actions = {"click": page.click, "undo": page.undo, "redo": page.redo, "open": page.open, "switch": page.switch}
    routes = [
        Route("/", file),
        Route("/static/{name}", file),
        Route("/image/{index:int}", page.image),
        Route("/api/look", _answering(page.look)),
        Route("/api/truth", _answering(page.truth)),
        *(Route(f"/api/{name}", _answering(action), methods=["POST"]) for name, action in actions.items()),
    ]
    return Guard(Starlette(routes=routes), names)


def _answering(action: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """What goes wrong as JSON with a sentence: 400 the request, 409 an outdated state, 422 what a person did."""

    async def answer(request: Request) -> Response:
        try:
            return await action(request)
        except Outdated:
            return JSONResponse({"error": "another window changed this; here is how it stands now."}, 409)
        except UserError as error:
            return JSONResponse({"error": str(error)}, 422)
        except BadRequest as error:
            return JSONResponse({"error": str(error)}, 400)

    return answer


class _Page:
    """Requests to a desk, and its answers as responses."""

    def __init__(self, desk: Desk):
        self._desk = desk

    async def look(self, request: Request) -> Response:
        return _lines(await self._desk.look())

    async def click(self, request: Request) -> Response:
        body = await _body(request, revision=int, y=int, x=int, positive=bool, device=str)
        click = Click(body["y"], body["x"], body["positive"])
        return _lines(await self._desk.click(body["revision"], click, _device(body)))

    async def undo(self, request: Request) -> Response:
        body = await _body(request, revision=int, everything=bool, device=str)
        return _lines(await self._desk.undo(body["revision"], _device(body), body["everything"]))

    async def redo(self, request: Request) -> Response:
        body = await _body(request, revision=int, device=str)
        return _lines(await self._desk.redo(body["revision"], _device(body)))

    async def open(self, request: Request) -> Response:
        body = await _body(request, revision=int, index=int)
        return _lines(await self._desk.open(body["revision"], body["index"]))

    async def switch(self, request: Request) -> Response:
        body = await _body(request, revision=int, variant=int, name=str, value=str)
        return _lines(await self._desk.switch(body["revision"], body["variant"], body["name"], body["value"]))

    async def truth(self, request: Request) -> Response:
        revision = request.query_params.get("revision", "")
        if not revision.isdecimal():
            raise BadRequest("revision: a whole number is needed")
        return Response(_json(_mask(self._desk.truth(int(revision)))), media_type="application/json")

    async def image(self, request: Request) -> Response:
        try:
            data = await self._desk.picture_file(request.path_params["index"])
        except Outdated:
            return Response("not the current image", 409, media_type="text/plain")
        return Response(data, media_type="image/png" if data.startswith(b"\x89PNG") else "image/jpeg")


def _lines(turn: Turn) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        yield _json({"state": asdict(turn.state)})
        async for number, reply in turn.replies():
            yield _json({"answer": _answer(turn.state, number, reply)})

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _answer(state: State, number: int, reply: Reply) -> dict[str, Any]:
    answer, seen = reply.answer, state.rules.iou
    return {
        "revision": state.revision,
        "variant": number,
        "mask": None if answer.mask is None else _mask(answer.mask),
        "ious": [_number(iou) if seen else None for iou in reply.ious],
        "online_ms": [_number(time) for time in reply.online_ms],
        "encode_ms": reply.encode_ms,
        "overlays": [_overlay(overlay) for overlay in answer.overlays],
        "error": answer.error,
    }


def _mask(runs: masks.Runs) -> dict[str, Any]:
    return {"box": runs.box, "runs": runs.runs}


def _overlay(overlay: Box | Cells) -> dict[str, Any]:
    if isinstance(overlay, Box):
        return {"name": overlay.name, "box": [overlay.left, overlay.top, overlay.right, overlay.bottom]}
    return {"name": overlay.name, "side": overlay.side, "cells": overlay.runs}


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return value if math.isfinite(value) else None


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"


async def _body(request: Request, **kinds: type) -> dict[str, Any]:
    """The JSON of a request; BadRequest unless it has exactly these fields, each of its kind."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > LARGEST_BODY:
            raise BadRequest("the request is too long")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest("the request is no JSON") from error
    if not isinstance(body, dict) or set(body) != set(kinds):
        raise BadRequest(f"the request needs exactly: {', '.join(kinds)}")
    for name, kind in kinds.items():
        if type(body[name]) is not kind:
            raise BadRequest(f"{name}: {kind.__name__} is needed")
    return body


def _device(body: dict[str, Any]) -> str:
    if body["device"] not in DEVICES:
        raise BadRequest(f"device: one of {', '.join(DEVICES)} is needed")
    return str(body["device"])
