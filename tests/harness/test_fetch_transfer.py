"""Fetching from a real server that misbehaves: every fault ends in the right bytes or in one clear line.

Expected bytes are those that the test serves; expected digests are computed by hashlib here, not by the harness.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from fault_server import File, Site, page, redirect, serve, status

from harness import fetch
from harness.errors import UserError
from harness.fetching import install, lockfile, places, room, transfer
from harness.fetching.manifests import Catalogue

BODY = b"\x80" + np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(BODY).hexdigest()
FAST = transfer.Rules(timeout_s=2.0, retries=3, wait_s=0.01)


@pytest.fixture(scope="module")
def server():
    site, running = serve()
    yield site
    running.shutdown()


@pytest.fixture
def site(server: Site, tmp_path: Path, monkeypatch) -> Site:
    """The server without files, an empty home, and no proxy or switch of the machine's own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IS_BENCH_DATA", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    server.pages.clear()
    server.requests.clear()
    return server


def entry(tmp_path: Path, *urls: str, digest: str | None = f"md5:{MD5}", name: str = "toy", **more):
    """An entry of one weight file; also written where the command finds it."""
    folder = tmp_path / "mine" / "fetch"
    folder.mkdir(parents=True, exist_ok=True)
    file = {"name": "toy.pth", "urls": list(urls), "digest": digest, **more}
    (folder / f"{name}.yaml").write_text(
        yaml.safe_dump({"kind": "weights", "name": name, "files": [file], "use": "*.pth"})
    )
    return Catalogue(tmp_path / "mine").get("weights", name)


def get(toy, rules: transfer.Rules = FAST, **more) -> tuple[Path, list[str]]:
    """Fetch it; the file, and what was said."""
    said: list[str] = []
    way = install.Way(lockfile.LockFile(lockfile.default()), rules, tell=said.append, **more)
    return install.install(toy, way).path, said


def nothing_there(home: Path, name: str = "toy") -> bool:
    return not (home / "weights" / name).exists() and not list((home / "weights").glob(".*"))


def test_a_good_server(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY)
    path, _ = get(entry(tmp_path, site.url("/f")))
    assert path == tmp_path / "home" / "weights" / "toy" / "toy.pth" and path.read_bytes() == BODY
    assert site.asked("/f") == [""]
    get(entry(tmp_path, site.url("/f")))
    assert site.asked("/f") == [""]  # it is here: nothing is asked again


@pytest.mark.parametrize("cut_at", [0, 1, 100, 150_000, len(BODY) - 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_truncated_transfer_is_continued(site: Site, tmp_path: Path, cut_at: int, chunked: bool):
    site.pages["/f"] = File(BODY, cut=1, cut_at=cut_at, chunked=chunked)
    path, said = get(entry(tmp_path, site.url("/f")))
    assert path.read_bytes() == BODY
    assert site.asked("/f") == ["", f"bytes={cut_at}-" if cut_at else ""]
    assert any("trying again" in line for line in said)


def test_many_breaks_are_no_failure_while_each_brings_something(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY, cut=8, cut_at=30_000)
    path, _ = get(entry(tmp_path, site.url("/f")), transfer.Rules(2.0, 1, 0.01))
    assert path.read_bytes() == BODY and len(site.asked("/f")) == 9


def test_a_later_command_continues_what_an_earlier_one_left(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY, cut=1, cut_at=200_000)
    with pytest.raises(
        UserError,
        match=r"in the middle of the file, 100,001 bytes before its end.*What came is kept, and continued by the same",
    ):
        get(entry(tmp_path, site.url("/f")), transfer.Rules(2.0, 0, 0.01))
    assert nothing_there(tmp_path / "home")
    path, _ = get(entry(tmp_path, site.url("/f")))
    assert path.read_bytes() == BODY and site.asked("/f") == ["", "bytes=200000-"]


@pytest.mark.parametrize("digest", [f"md5:{MD5}", f"sha256:{hashlib.sha256(BODY).hexdigest()}", None])
@pytest.mark.parametrize("etag", [True, False])
def test_a_server_without_ranges(site: Site, tmp_path: Path, digest: str | None, etag: bool):
    site.pages["/f"] = File(BODY, ranges=False, cut=2, cut_at=1000, etag=etag)
    path, _ = get(entry(tmp_path, site.url("/f"), digest=digest))
    assert path.read_bytes() == BODY


def test_without_digest_and_validator_nothing_is_mixed(site: Site, tmp_path: Path):
    """Two answers that nothing says are of one file are not glued together."""
    site.pages["/f"] = File(BODY, cut=1, cut_at=1000, etag=False)
    path, _ = get(entry(tmp_path, site.url("/f"), digest=None))
    assert path.read_bytes() == BODY and site.asked("/f") == ["", ""]


@pytest.mark.parametrize("same_size", [True, False])
def test_another_file_behind_the_address_meanwhile(site: Site, tmp_path: Path, same_size: bool):
    other = BODY[::-1] if same_size else BODY + b"more"
    site.pages["/f"] = File(other, cut=1, cut_at=70_000)
    with pytest.raises(UserError):
        get(entry(tmp_path, site.url("/f"), digest=None), transfer.Rules(2.0, 0, 0.01))
    site.pages["/f"] = File(BODY)
    path, _ = get(entry(tmp_path, site.url("/f"), digest=None))
    assert path.read_bytes() == BODY


def test_a_server_that_ignores_if_range_and_has_another_file(site: Site, tmp_path: Path):
    """206 of another file: its ETag says so."""

    class Careless(File):
        def __call__(self, handler) -> None:
            del handler.headers["If-Range"]
            super().__call__(handler)

    site.pages["/f"] = File(BODY[::-1], cut=1, cut_at=70_000)
    with pytest.raises(UserError):
        get(entry(tmp_path, site.url("/f"), digest=None), transfer.Rules(2.0, 0, 0.01))
    site.pages["/f"] = Careless(BODY)
    path, _ = get(entry(tmp_path, site.url("/f"), digest=None))
    assert path.read_bytes() == BODY


def test_a_wrong_digest_is_kept_aside_and_never_used(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY[:-1] + b"?")
    with pytest.raises(UserError, match=rf"gave md5 [0-9a-f]{{32}} where {MD5} was expected.*kept aside as") as caught:
        get(entry(tmp_path, site.url("/f")))
    rejected = tmp_path / "home" / "incoming" / "weights-toy" / "toy.pth.rejected"
    assert rejected.read_bytes() == BODY[:-1] + b"?" and str(rejected) in str(caught.value)
    assert nothing_there(tmp_path / "home") and not rejected.with_name("toy.pth").exists()
    site.pages["/f"] = File(BODY)
    assert get(entry(tmp_path, site.url("/f")))[0].read_bytes() == BODY


def test_a_mixture_is_fetched_anew_before_it_is_rejected(site: Site, tmp_path: Path):
    """A mirror's half and another server's half: the digest shows it, and the whole file comes from one."""
    site.pages["/a"] = File(BODY[::-1], cut=9, cut_at=50_000, etag=False, ranges=False)
    site.pages["/b"] = File(BODY, etag=False)
    path, said = get(entry(tmp_path, site.url("/a"), site.url("/b")), transfer.Rules(2.0, 0, 0.01))
    assert path.read_bytes() == BODY and any("from its beginning" in line for line in said)


def test_a_digest_is_recorded_at_first_use_and_required_from_then_on(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY)
    get(entry(tmp_path, site.url("/f"), digest=None))
    lock = yaml.safe_load((tmp_path / "home" / "is-bench.lock.yaml").read_text())
    assert lock["weights/toy/toy.pth"]["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert lock["weights/toy/toy.pth"]["size"] == len(BODY)
    site.pages["/f"] = File(BODY[::-1])
    with pytest.raises(UserError, match="recorded at first use on .*kept aside"):
        get(entry(tmp_path, site.url("/f"), digest=None), again=True)
    assert places.installed("weights", "toy").path.read_bytes() == BODY  # what was here stays


def test_a_lock_file_that_was_committed_decides_elsewhere(site: Site, tmp_path: Path, monkeypatch):
    site.pages["/f"] = File(BODY)
    (tmp_path / "is-bench.lock.yaml").touch()
    get(entry(tmp_path, site.url("/f"), digest=None))
    monkeypatch.setenv("IS_BENCH_DATA", str(tmp_path / "elsewhere"))
    site.pages["/f"] = File(BODY[:-1] + b"x")
    with pytest.raises(UserError, match="is-bench.lock.yaml, recorded at first use"):
        get(entry(tmp_path, site.url("/f"), digest=None))


@pytest.mark.parametrize(
    "first, says",
    [
        (status(404), "404"),
        (status(410), "410"),
        (status(403), "403.*gated or blocked"),
        (status(500), "500"),
        (status(503, Retry_After=0), "503"),
        (page("<html><title>Quota exceeded</title></html>"), "a page in the place of the file: 'Quota exceeded'"),
        (lambda handler: handler.begin(206, Content_Length=4, Content_Range="bytes 5-8/9"), "another part"),
        (File(BODY[::-1]), "gave md5"),
    ],
    ids=["404", "410", "403", "500", "503", "page", "206", "digest"],
)
def test_the_next_address_where_one_gives_no_file(site: Site, tmp_path: Path, first, says: str):
    site.pages["/a"], site.pages["/b"] = first, File(BODY)
    path, said = get(entry(tmp_path, site.url("/a"), site.url("/b")), transfer.Rules(2.0, 1, 0.01))
    assert path.read_bytes() == BODY
    import re

    assert any(re.search(says, line) and "trying the next address" in line for line in said), said


def test_all_addresses_fail_and_each_has_its_reason(site: Site, tmp_path: Path):
    site.pages["/a"] = status(404)
    site.pages["/b"] = page("<html><body>Sorry, too many users have viewed this file</body></html>")
    with pytest.raises(UserError) as caught:
        get(entry(tmp_path, site.url("/a"), site.url("/b")))
    text = str(caught.value)
    assert "404" in text and "too many users" in text and "from=FILE" in text and "\n" not in text
    assert nothing_there(tmp_path / "home")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_redirects_in_a_circle(site: Site, tmp_path: Path, length: int):
    for i in range(length):
        site.pages[f"/r{i}"] = redirect(site.url(f"/r{(i + 1) % length}"))
    with pytest.raises(UserError, match="redirects in a circle"):
        get(entry(tmp_path, site.url("/r0")))


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x", "http://"])
def test_a_redirect_to_what_is_no_web_address(site: Site, tmp_path: Path, to: str):
    site.pages["/r"] = redirect(to)
    with pytest.raises(UserError, match="toy"):
        get(entry(tmp_path, site.url("/r")), transfer.Rules(2.0, 0, 0.01))
    assert nothing_there(tmp_path / "home")


def test_a_few_redirects_are_followed(site: Site, tmp_path: Path):
    site.pages |= {"/r0": redirect("/r1"), "/r1": redirect(site.url("/f")), "/f": File(BODY)}
    assert get(entry(tmp_path, site.url("/r0")))[0].read_bytes() == BODY


def drip_headers(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        time.sleep(0.1)
        handler.wfile.write(b"X")
        handler.wfile.flush()


@pytest.mark.parametrize(
    "slow",
    [
        lambda handler: time.sleep(5),
        File(BODY, hold=lambda: time.sleep(5)),
        File(BODY, pause=0.15, piece=1),
        File(BODY, pause=0.15, piece=1, chunked=True),
        File(BODY, pause=0.15, piece=1, length=False),
        drip_headers,
    ],
    ids=["silent", "body never comes", "a byte at a time", "chunks of a byte", "no length", "headers drip"],
)
def test_a_slow_server_is_given_up_and_the_setting_named(site: Site, tmp_path: Path, slow):
    site.pages["/f"] = slow
    start = time.monotonic()
    with pytest.raises(UserError, match=r"timeout_s=0\.4; give timeout_s=N to wait longer"):
        get(entry(tmp_path, site.url("/f")), transfer.Rules(0.4, 0, 0.01))
    assert time.monotonic() - start < 4 and nothing_there(tmp_path / "home")


def test_a_server_that_is_only_slow_is_waited_for(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY[:30_000], pause=0.05, piece=1000)
    digest = f"md5:{hashlib.md5(BODY[:30_000]).hexdigest()}"
    assert get(entry(tmp_path, site.url("/f"), digest=digest), transfer.Rules(0.5, 0, 0.01))[0].stat().st_size == 30_000


PAGES = {
    "title": "<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>x</body></html>",
    "no title": "<html><body><p>Sorry, you can't view or download this file at this time.</p></body></html>",
    "comment first": "<!-- hi --><html><title>Maintenance</title></html>",
    "bare": "Too many requests",
    "json": '{"error": {"code": 403, "message": "Rate limit exceeded"}}',
    "xml": '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "lfs": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
}


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)
@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream", "text/plain"])
@pytest.mark.parametrize("digest", [None, f"md5:{MD5}"])
def test_a_page_in_the_place_of_a_file(site: Site, tmp_path: Path, text: str, kind: str, digest: str | None):
    if kind == "application/octet-stream" and not text.startswith(("<", "version")):
        pytest.skip("plain words and JSON that call themselves a file: only a digest can tell")
    site.pages["/f"] = page(text, kind=kind)
    with pytest.raises(UserError, match="a page in the place of the file: ") as caught:
        get(entry(tmp_path, site.url("/f"), digest=digest))
    words = {"json": "Rate limit exceeded", "lfs": "Git LFS", "title": "Quota exceeded", "no title": "Sorry"}
    wanted = next((word for key, word in words.items() if PAGES[key] == text), "")
    assert wanted in str(caught.value) and nothing_there(tmp_path / "home")
    assert not (tmp_path / "home" / "is-bench.lock.yaml").exists()  # nothing of it was recorded


def confirmation(inside: str) -> str:
    title = "Google Drive - Virus scan warning"
    return f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{inside}</body></html>"


CONFIRMATIONS = {
    "form": '<form id="download-form" action="/real" method="get"><input type="submit" value="Download anyway"/>'
    '<input type="hidden" name="id" value="A&amp;B"><input type="hidden" name="confirm" value="t"></form>',
    "action": '<form action="/real?id=A%26B&amp;confirm=t" method="post"><input type="submit"></form>',
    "link": '<a href="/real?confirm=t&amp;id=A%26B">Download anyway</a>',
    "after a search form": '<form action="/search"><input type="hidden" name="q" value="1"></form>'
    '<form action="/real"><input type=hidden name=id value="A&amp;B"><input type=hidden name=confirm value=t></form>',
}


@pytest.mark.parametrize("inside", CONFIRMATIONS.values(), ids=CONFIRMATIONS)
def test_a_hosters_confirmation_page_is_answered(site: Site, tmp_path: Path, inside: str):
    asked = []

    def real(handler) -> None:
        from urllib.parse import parse_qs, urlsplit

        asked.append(parse_qs(urlsplit(handler.path).query))
        File(BODY)(handler)

    site.pages |= {"/f": page(confirmation(inside)), "/real": real}
    path, _ = get(entry(tmp_path, site.url("/f")))
    assert path.read_bytes() == BODY and asked == [{"id": ["A&B"], "confirm": ["t"]}]


def test_a_confirmation_that_leads_to_itself_or_to_strangers_is_not_followed_for_ever(site: Site, tmp_path: Path):
    site.pages["/f"] = page(confirmation('<a href="/f?confirm=1">again</a>'))
    with pytest.raises(UserError, match="Virus scan warning"):
        get(entry(tmp_path, site.url("/f")))
    assert len(site.asked("/f")) <= 4
    site.pages["/f"] = page(confirmation('<a href="http://stranger.invalid/f?confirm=1">go</a>'))
    with pytest.raises(UserError, match="Virus scan warning"):
        get(entry(tmp_path, site.url("/f")))


def test_a_size_that_is_far_from_the_published_one_is_not_recorded(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY)
    with pytest.raises(UserError, match=r"offers 0\.3 MB where about 5\.0 were published"):
        get(entry(tmp_path, site.url("/f"), digest=None, about_mb=5))
    with pytest.raises(UserError, match="offers 300,001 bytes where 300,000 were expected"):
        get(entry(tmp_path, site.url("/f"), digest=None, size=300_000))
    assert get(entry(tmp_path, site.url("/f"), digest=None, about_mb=0.3))[0].read_bytes() == BODY


def test_an_endless_body_is_cut_off(site: Site, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(transfer, "MOST_UNKNOWN", 100_000)
    site.pages["/f"] = File(BODY, length=False)
    with pytest.raises(UserError, match="more than the 100,000 bytes"):
        get(entry(tmp_path, site.url("/f"), digest=None))


def test_an_empty_file_is_none(site: Site, tmp_path: Path):
    for empty in (File(b""), File(b"", length=False), File(b"", chunked=True)):
        site.pages["/f"] = empty
        with pytest.raises(UserError, match="gave an empty file"):
            get(entry(tmp_path, site.url("/f"), digest=None))
    assert nothing_there(tmp_path / "home") and not (tmp_path / "home" / "is-bench.lock.yaml").exists()


def test_a_checkpoint_without_its_end_is_not_recorded(site: Site, tmp_path: Path):
    """A server that says no length, and breaks off: only the file itself tells."""
    import io
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", BODY)
    site.pages["/f"] = File(data.getvalue(), length=False, cut=1)
    with pytest.raises(UserError, match="it was cut off"):
        get(entry(tmp_path, site.url("/f"), digest=None))
    assert nothing_there(tmp_path / "home") and not (tmp_path / "home" / "is-bench.lock.yaml").exists()
    assert get(entry(tmp_path, site.url("/f"), digest=None))[0].read_bytes() == data.getvalue()


def test_more_bytes_than_announced_are_not_taken(site: Site, tmp_path: Path):
    def lies(handler) -> None:
        handler.begin(200, Content_Length=len(BODY))
        handler.put(BODY + b"surplus")

    site.pages["/f"] = lies
    assert get(entry(tmp_path, site.url("/f")))[0].read_bytes() == BODY


def test_a_packed_encoding_is_unpacked_unless_the_file_itself_is_packed(site: Site, tmp_path: Path):
    import gzip

    packed = gzip.compress(BODY)
    site.pages["/f"] = File(packed, encoding="gzip")
    assert get(entry(tmp_path, site.url("/f")))[0].read_bytes() == BODY
    site.pages["/f.tar.gz"] = File(packed, encoding="x-gzip")
    digest = f"md5:{hashlib.md5(packed).hexdigest()}"
    assert get(entry(tmp_path, site.url("/f.tar.gz"), digest=digest, name="other"))[0].read_bytes() == packed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_while_writing(site: Site, tmp_path: Path, number: int, monkeypatch):
    """The error that the system gives at the first write beyond what fits; the transfer goes on once there is room."""
    site.pages["/f"] = File(BODY)
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(room.NoRoom, match="no room in .*IS_BENCH_DATA to a folder on a larger disk"):
        get(entry(tmp_path, site.url("/f")))
    assert nothing_there(tmp_path / "home")
    monkeypatch.setattr(os, "fsync", real)
    assert get(entry(tmp_path, site.url("/f")))[0].read_bytes() == BODY


def test_a_disk_too_small_is_said_before_anything_is_written(site: Site, tmp_path: Path, monkeypatch):
    site.pages["/f"] = File(BODY)
    monkeypatch.setattr(room, "SPARE", 1 << 62)
    with pytest.raises(room.NoRoom, match="are still to come, and .* MB free"):
        get(entry(tmp_path, site.url("/f")))


def command(tmp_path: Path, *arguments: str, **popen) -> subprocess.Popen:
    env = {**os.environ, "IS_BENCH_DATA": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "harness.fetch", "--config-dir", str(tmp_path / "mine"), *arguments],
        env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen,
    )  # fmt: skip


def test_a_full_disk_of_the_real_system(site: Site, tmp_path: Path):
    """A limit of the file size stands for the full disk: the kernel itself refuses the write."""
    import resource

    site.pages["/f"] = File(BODY)
    entry(tmp_path, site.url("/f"))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    done = command(tmp_path, "weights=toy", preexec_fn=limit)
    _, err = done.communicate(timeout=60)
    assert done.returncode == 2 and "no room in" in err and "Traceback" not in err
    assert nothing_there(tmp_path / "home")


def test_two_fetches_at_once_transfer_once(site: Site, tmp_path: Path):
    gate = threading.Event()
    site.pages["/f"] = File(BODY, hold=lambda: gate.wait(20))
    entry(tmp_path, site.url("/f"))
    first, second = command(tmp_path, "weights=toy"), command(tmp_path, "weights=toy")
    waiting = time.monotonic() + 40
    while not site.asked("/f") and time.monotonic() < waiting:
        time.sleep(0.05)
    time.sleep(2.0)
    gate.set()
    results = [p.communicate(timeout=60) for p in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), results
    assert len(site.asked("/f")) == 1
    assert (tmp_path / "home" / "weights" / "toy" / "toy.pth").read_bytes() == BODY


def test_killed_half_way_leaves_nothing_under_the_final_name_and_goes_on(site: Site, tmp_path: Path):
    gate, started = threading.Event(), threading.Event()

    class Half(File):
        def __call__(self, handler) -> None:
            if not started.is_set():
                handler.begin(200, Content_Length=len(BODY), ETag='"a"', Content_Type="application/octet-stream")
                handler.put(BODY[:200_000])
                started.set()
                gate.wait(30)
                return
            handler.headers.replace_header("If-Range", f'"{MD5}"') if "If-Range" in handler.headers else None
            super().__call__(handler)

    site.pages["/f"] = Half(BODY)
    entry(tmp_path, site.url("/f"))
    running = command(tmp_path, "weights=toy")
    assert started.wait(60)
    part = tmp_path / "home" / "incoming" / "weights-toy" / "toy.pth.part"
    deadline = time.monotonic() + 20
    while (not part.exists() or part.stat().st_size < 100_000) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    gate.set()
    running.communicate()
    assert nothing_there(tmp_path / "home") and 0 < part.stat().st_size <= 200_000
    mark = part.with_name("toy.pth.part.json")
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "etag": f'"{MD5}"'}))
    path, _ = get(entry(tmp_path, site.url("/f")))
    assert path.read_bytes() == BODY and site.asked("/f")[-1].startswith("bytes=")


def test_what_a_kill_while_unpacking_left_is_removed(site: Site, tmp_path: Path):
    site.pages["/f"] = File(BODY)
    left = tmp_path / "home" / "weights" / ".toy.99999.staging"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    get(entry(tmp_path, site.url("/f")))
    assert not left.exists()


@pytest.mark.parametrize("where", ["file", "proc", "read-only"])
def test_a_folder_that_cannot_be_written(site: Site, tmp_path: Path, where: str, monkeypatch):
    site.pages["/f"] = File(BODY)
    (tmp_path / "file").write_text("")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    home = {"file": tmp_path / "file" / "home", "proc": Path("/proc/is-bench"), "read-only": closed / "home"}[where]
    if where == "read-only" and os.access(closed, os.W_OK):
        pytest.skip("root may write everywhere")
    monkeypatch.setenv("IS_BENCH_DATA", str(home))
    with pytest.raises(room.NoRoom, match="cannot write in .*set IS_BENCH_DATA to a folder that you may write"):
        get(entry(tmp_path, site.url("/f")))
    assert not site.requests  # found out before anybody was asked


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_no_network_at_all(site: Site, tmp_path: Path, host: str):
    with pytest.raises(UserError, match=rf"no connection to {host}.*from=FILE") as caught:
        get(entry(tmp_path, f"http://{host}:{free_port()}/f"), transfer.Rules(5.0, 0, 0.01))
    assert "0x" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_proxy_is_used_and_named_when_it_does_not_answer(site: Site, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="the proxy for files.invalid does not answer.*HTTPS_PROXY, HTTP_PROXY"):
        get(entry(tmp_path, "http://files.invalid/f"), transfer.Rules(5.0, 0, 0.01))
    asked = []
    site.pages["http://files.invalid/f"] = lambda handler: (asked.append(handler.path), File(BODY)(handler))[1]
    monkeypatch.setenv("HTTP_PROXY", site.address)
    assert get(entry(tmp_path, "http://files.invalid/f"))[0].read_bytes() == BODY and asked


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_switches_forbid_every_transfer(site: Site, tmp_path: Path, name: str, monkeypatch):
    monkeypatch.setenv(name, "1")
    with pytest.raises(UserError, match=f"{name}=1 forbids the network"):
        get(entry(tmp_path, site.url("/f")))
    assert not site.requests


def test_an_own_file_takes_the_place_of_the_network(site: Site, tmp_path: Path):
    mine = tmp_path / "down load.pth"
    mine.write_bytes(BODY)
    path, _ = get(entry(tmp_path, site.url("/f")), sources=(mine,))
    assert path.name == "toy.pth" and path.read_bytes() == BODY and mine.exists() and not site.requests


def test_an_own_file_of_another_digest_is_refused_and_left_alone(site: Site, tmp_path: Path):
    mine = tmp_path / "x.pth"
    mine.write_bytes(b"other")
    with pytest.raises(UserError, match="another file than the published one"):
        get(entry(tmp_path, site.url("/f")), sources=(mine,))
    assert mine.read_bytes() == b"other" and nothing_there(tmp_path / "home")


def test_the_command_says_one_line_and_its_exit_code(site: Site, tmp_path: Path, capsys, monkeypatch):
    entry(tmp_path, site.url("/f"))
    arguments = ["--config-dir", str(tmp_path / "mine"), "weights=toy", "retries=0"]
    assert fetch.run(arguments) == 1
    assert "404" in capsys.readouterr().err
    site.pages["/f"] = File(BODY)
    assert fetch.run(arguments) == 0
    assert "variant.weights=official:toy" in capsys.readouterr().err
    assert fetch.run([*arguments[:2], "verify=true"]) == 0
    path = places.installed("weights", "toy").path
    path.write_bytes(BODY[:-1] + b"!")
    assert fetch.run([*arguments[:2], "verify=true"]) == 1
    assert "was changed" in capsys.readouterr().err
    path.unlink()
    assert fetch.run([*arguments[:2], "verify=true", "weights=toy"]) == 1


@pytest.mark.parametrize(
    "given, says",
    [
        ("weights=sam_vit_x", "Did you mean 'sam_vit_"),
        ("data=grabcat", "Did you mean 'grabcut'"),
        ("wights=sam_vit_b", "Did you mean 'weights'"),
        ("timeout_s=0", "seconds greater than 0"),
        ("retries=-1", "a whole number from 0"),
        ("list=maybe", "true or false"),
        ("all=everything", "all=reproduction:NAME"),
        ("grabcut", "settings look like key=value"),
        ("from=x", "exactly one data=NAME or weights=NAME"),
    ],
)
def test_wrong_settings_name_the_right_ones(site: Site, given: str, says: str):
    with pytest.raises(UserError, match=says):
        fetch.run([given])
