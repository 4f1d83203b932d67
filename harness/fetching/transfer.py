"""One address into one file: resumed where the server can, started over where it cannot, never longer than allowed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import requests

from harness.fetching import network, pages, room
from harness.fetching.network import Broken, Failed
from harness.fetching.stream import Stream

MOST_UNKNOWN = 64 << 30
"""Bytes that are taken from a server that says no size, where the manifest knows none either."""
_MOST_CONFIRMATIONS = 2
_JUDGED = 1024
_RANGE = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Rules:
    """How long and how often.

    Attributes:
        timeout_s: an address that brings nothing (or next to nothing) for so long is given up.
        retries: further tries of an address that broke off without having brought more.
        wait_s: before the second try; twice as long before each further one, at most a minute.
    """

    timeout_s: float = 30.0
    retries: int = 3
    wait_s: float = 1.0


@dataclass(frozen=True)
class Expected:
    """What is known beforehand of the file.

    Attributes:
        title: for messages and progress.
        size: exact bytes, or None.
        about: bytes as published, rounded, or None.
        digest: whether a digest will be checked, so that a mixture of two files would be noticed.
        headers: of the request, for gated repositories.
    """

    title: str
    size: int | None = None
    about: int | None = None
    digest: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def most(self) -> int:
        """Bytes after which a body that has no announced end is cut off."""
        return self.size or (2 * self.about + room.SPARE if self.about else MOST_UNKNOWN)


@dataclass(frozen=True)
class Mark:
    """What a partial file came from, kept beside it."""

    url: str
    etag: str = ""
    modified: str = ""
    total: int | None = None

    @property
    def validator(self) -> str:
        """For If-Range: a strong ETag, else the time of change."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    @classmethod
    def read(cls, path: Path) -> Mark | None:
        """From disk; None where it is not there or not ours."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


Progress = Callable[[int, "int | None"], None]
"""(bytes so far, bytes in all or None)"""


def transfer(
    session: requests.Session, url: str, part: Path, expectation: Expected, rules: Rules, progress: Progress
) -> bool:
    """Bring the file behind an address into `part`; what an earlier try left there is continued.

    Returns:
        Whether bytes of an earlier try are in it.

    Raises:
        Broken: it broke off; `part` keeps what came.
        Failed: this address gives no such file.
        NoRoom: full disk, quota, no permission.
    """
    says = ""
    for _ in range(_MOST_CONFIRMATIONS + 1):
        page = _once(session, url, part, expectation, rules, progress)
        if isinstance(page, bool):
            return page
        says = page.says
        if page.confirm is None:
            break
        url = page.confirm
    raise Failed(f"{network.urlsplit(url).netloc} answered with a page in the place of the file: {says!r}")


def _once(
    session: requests.Session, url: str, part: Path, expectation: Expected, rules: Rules, progress: Progress
) -> bool | pages.Page:
    """One request; a page where the server answers with one."""
    beside = part.with_name(part.name + ".json")
    mark, have = Mark.read(beside), _size(part)
    resumable = have > 0 and mark is not None and _may_resume(mark, url, expectation)
    headers = dict(expectation.headers)
    if resumable and mark is not None:
        headers["Range"] = f"bytes={have}-"
        if mark.validator and mark.url == url:
            headers["If-Range"] = mark.validator
    with Stream(session, url, headers, rules.timeout_s) as stream:
        answer, host = stream.response, network.urlsplit(stream.response.url).netloc
        _refuse_downgrade(answer, expectation)
        if answer.status_code == 416 and resumable:
            if _range(answer)[1] == have:
                return True
            forget(part)
            raise Broken(f"{host} has another file now; starting over")
        if answer.status_code not in (200, 206):
            raise _refused(answer, host)
        start, whole = _range(answer) if answer.status_code == 206 else (0, None)
        if answer.status_code == 206 and not (resumable and mark and _continues(answer, mark, start, whole, have, url)):
            forget(part)
            raise Broken(f"{host} sent another part of the file than was asked for; starting over")
        body = stream.chunks()
        first, end = _gathered(body, _JUDGED)
        if answer.status_code == 200 and pages.is_page(answer.headers.get("Content-Type", ""), first):
            return pages.read(first + _gathered(body, pages.MOST_PAGE)[0], answer.url)
        length = None if stream.decoded else _length(answer)
        total = whole if answer.status_code == 206 else length
        if answer.status_code == 200:
            have = 0
            _check_size(total, expectation, host)
            new = Mark(url, answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", ""), total)
            room.guarded(part, lambda: beside.write_text(json.dumps(asdict(new)), encoding="utf-8"))
        room.check_room(part, total if total is not None else expectation.size or expectation.about, have)
        received = _write(part, have, _rest(first, end, body), total, expectation, progress, host)
        if not received:
            forget(part)
            raise Failed(f"{host} gave an empty file")
        if total is not None and received != total:
            what = "more" if received > total else "only"
            if received > total:
                forget(part)
            raise Broken(f"{host} sent {what} {received:,} of {total:,} bytes")
        return resumable and answer.status_code == 206


def _gathered(body: Iterator[bytes], least: int) -> tuple[bytes, Broken | None]:
    """So many bytes of a body, or all where it has fewer; and what broke it off meanwhile."""
    text = b""
    try:
        for chunk in body:
            text += chunk
            if len(text) >= least:
                break
    except Broken as error:
        return text, error
    return text, None


def _rest(first: bytes, end: Broken | None, body: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    if end is not None:
        raise end
    yield from body


def _write(
    part: Path,
    have: int,
    body: Iterator[bytes],
    total: int | None,
    expectation: Expected,
    progress: Progress,
    host: str,
) -> int:
    most = total if total is not None else expectation.most
    try:
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            for chunk in body:
                have += len(chunk)
                if have > most:
                    raise Failed(f"{host} sends more than the {most:,} bytes that this file may have")
                file.write(chunk)
                progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise room.no_room(error, part, expectation.title) from error
    return have


def _check_size(total: int | None, expectation: Expected, host: str) -> None:
    """A file of quite another size than was published is another file; a digest says so better where there is one."""
    if total is None:
        return
    if expectation.size is not None and total != expectation.size:
        raise Failed(f"{host} offers {total:,} bytes where {expectation.size:,} were expected")
    # Published sizes are rounded, in units of 10^6 or 2^20 bytes, which differ by 5 %.
    if expectation.about is not None and not expectation.digest and not 0.8 < total / expectation.about < 1.25:
        raise Failed(f"{host} offers {total / 1e6:,.1f} MB where about {expectation.about / 1e6:,.1f} were published")


def _may_resume(mark: Mark, url: str, expectation: Expected) -> bool:
    """Whether more of the same file may be added: the same address and a way to notice a change, or a known digest."""
    return expectation.digest or (mark.url == url and bool(mark.validator))


def _continues(answer: requests.Response, mark: Mark, start: int, whole: int | None, have: int, url: str) -> bool:
    if start != have or (mark.total is not None and whole is not None and mark.total != whole):
        return False
    etag = answer.headers.get("ETag", "")
    return mark.url != url or not (mark.etag and etag) or etag.removeprefix("W/") == mark.etag.removeprefix("W/")


def _refused(answer: requests.Response, host: str) -> Failed:
    status = answer.status_code
    text = f"{host} answers {status} {answer.reason or ''}".strip()
    if status in (401, 403):
        text += " (it may be gated or blocked: open it in a browser, then from=FILE)"
    if status in (408, 425, 429) or status >= 500:
        after = answer.headers.get("Retry-After", "")
        return Broken(text, min(float(after), 60.0) if after.isdigit() else None)
    return Failed(text)


def _refuse_downgrade(answer: requests.Response, expectation: Expected) -> None:
    way = [*(r.url for r in answer.history), answer.url]
    if not expectation.digest and way[0].startswith("https:") and any(not step.startswith("https:") for step in way):
        raise Failed(
            f"{way[0]} leads to {answer.url} without encryption, and no digest is known that would show a change"
        )


def _range(answer: requests.Response) -> tuple[int, int | None]:
    match = _RANGE.match(answer.headers.get("Content-Range", ""))
    if match is None:
        return -1, None
    return int(match[1]) if match[1] else -1, None if match[3] == "*" else int(match[3])


def _length(answer: requests.Response) -> int | None:
    text = answer.headers.get("Content-Length", "")
    chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    return int(text) if text.isdigit() and not chunked else None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def forget(part: Path) -> None:
    """Remove a partial file and what it came from."""
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".json").unlink(missing_ok=True)
