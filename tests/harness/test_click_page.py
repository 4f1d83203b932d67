"""The page's addresses: answers, records, refusals. Expected masks are the toy model's discs (closed form)."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from served_page import Client, Served, disc, refusal, wait_for

from harness.clicking import recording
from harness.clicking.recorded_rows import read_rows
from harness.clickpage import answers
from harness.scoring.metrics import iou


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("click")) as page:
        yield page


@pytest.fixture
def client(served: Served) -> Client:
    """On the first picture, without clicks."""
    client = Client(served)
    if client.state["index"]:
        client.ask("open", index=0)
    if client.state["clicks"]:
        client.ask("undo", everything=True)
    return client


def test_a_click_is_answered_scored_and_on_disk(served: Served, client: Client) -> None:
    assert client.click(20, 20) == {"status": 200}
    np.testing.assert_array_equal(client.mask(), disc(20, 20))
    truth = np.zeros((64, 64), np.uint8)
    truth[10:30, 12:34] = 1  # square0 of the toy data set
    assert client.answers[0]["ious"] == [pytest.approx(iou(disc(20, 20), truth), abs=1e-12)]
    row = read_rows(served.out / "clicks.csv").clicks[-1]
    assert (row.sample, row.click, row.y, row.x, row.positive) == ("square0", 1, 20, 20, True)
    assert (row.user, row.device, row.height, row.width, row.dataset) == ("me", "pc", 64, 64, "squares")
    assert answers.read(served.out / "answers.csv")[-1].iou == pytest.approx(client.answers[0]["ious"][0], abs=1e-6)


def test_undo_and_redo_give_the_same_masks_again(served: Served, client: Client) -> None:
    """A segmenter cannot undo: a second click after an undo must be answered as if the undone one had never been."""
    client.click(20, 20)
    one = client.mask()
    client.click(40, 40)
    two = client.mask()
    np.testing.assert_array_equal(two, one | disc(40, 40))
    client.undo()
    np.testing.assert_array_equal(client.mask(), one)
    client.ask("redo")
    np.testing.assert_array_equal(client.mask(), two)
    client.undo()
    client.click(22, 26, positive=False)
    np.testing.assert_array_equal(client.mask(), one & ~disc(22, 26))
    assert client.ask("redo")["error"] == "there is no click to redo."
    client.ask("undo", everything=True)
    assert not client.mask().any() and client.state["undone"] == 2
    actions = [row.action for row in read_rows(served.out / "clicks.csv").clicks]
    assert actions[-7:] == ["click", "click", "undo", "click", "undo", "click", "undo"]


def test_what_stands_is_what_the_recording_replays(served: Served, client: Client) -> None:
    client.click(20, 20)
    client.click(50, 50)
    client.undo()
    client.click(25, 30, positive=False)
    episode = recording.read(served.out / "clicks.csv", "squares").episodes["square0"]["me"]
    assert [(c.click, c.y, c.x, c.positive) for c in episode] == [(1, 20, 20, True), (2, 25, 30, False)]


@pytest.mark.parametrize("y, x", [(-1, 0), (64, 0), (0, 64), (0, 10**9)])
def test_a_click_outside_changes_nothing(served: Served, client: Client, y: int, x: int) -> None:
    before = (served.out / "clicks.csv").read_bytes()
    refused = client.click(y, x)
    assert refused["status"] == 422 and f"row {y}, column {x} lies outside the image of 64 rows" in refused["error"]
    client.look()
    assert client.state["clicks"] == [] and (served.out / "clicks.csv").read_bytes() == before


def test_a_second_window_sees_the_first_ones_clicks_and_loses_none(served: Served, client: Client) -> None:
    other = Client(served)
    client.click(20, 20)
    assert other.click(40, 40)["status"] == 409
    other.look()
    assert other.state["clicks"] == [[20, 20, True]]
    other.click(40, 40)
    assert client.undo()["status"] == 409
    client.look()
    assert client.state["clicks"] == [[20, 20, True], [40, 40, True]]


def test_pictures_keep_their_clicks(client: Client) -> None:
    client.click(20, 20)
    client.ask("open", index=1)
    assert client.state["name"] == "square1" and client.state["clicks"] == []
    client.ask("open", index=0)
    assert client.state["clicks"] == [[20, 20, True]]
    np.testing.assert_array_equal(client.mask(), disc(20, 20))
    assert client.ask("open", index=4)["status"] == 422


def test_the_picture_and_the_truth_arrive_whole(client: Client) -> None:
    response = client.request("GET", "/image/0")
    pixels = cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_COLOR)
    assert response.headers["Content-Type"] == "image/png" and (pixels == 90).all() and pixels.shape == (64, 64, 3)
    assert client.request("GET", "/image/1").status == 409
    answer = client.request("GET", f"/api/truth?revision={client.state['revision']}").read()
    assert b'"box":[10,12,20,22],"runs":[0,440]' in answer


@pytest.mark.parametrize(
    "headers, why",
    [
        ({"Host": "evil.example"}, "not served under this name"),
        ({"Host": "127.0.0.1"}, "not served under this name"),
        ({"Origin": "http://evil.example"}, "other sites"),
        ({"Origin": "null"}, "other sites"),
        ({"Origin": ""}, "must say its Origin"),
        ({"Sec_Fetch_Site": "cross-site"}, "other sites"),
        ({"Sec_Fetch_Site": "same-site"}, "other sites"),
        ({"Content_Type": "text/plain"}, "Send JSON"),
    ],
)
def test_other_sites_are_refused(client: Client, headers: dict[str, str], why: str) -> None:
    body = {"revision": client.state["revision"], "y": 1, "x": 1, "positive": True, "device": "pc"}
    response = client.request("POST", "/api/click", body, **headers)
    assert response.status == 403 and why in response.read().decode()
    client.look()
    assert client.state["clicks"] == []


def test_reading_is_refused_to_other_sites_too(client: Client) -> None:
    for path in ("/", "/api/look", "/image/0", "/static/page.js"):
        assert client.request("GET", path, Host="evil.example").status == 403
        if path != "/":
            assert client.request("GET", path, Sec_Fetch_Site="cross-site").status == 403
        kept = client.request("GET", path, Host=f"localhost:{client.port}")
        assert kept.status == 200
        policy = kept.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert kept.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"[]", b"\xff", b"[" * 3000, b'{"y": 1}', b" " * 5000,
        {"y": 1.5, "x": 1, "positive": True, "device": "pc"},
        {"y": True, "x": 1, "positive": True, "device": "pc"},
        {"y": 1, "x": 1, "positive": True, "device": "=cmd()"},
        {"y": 1, "x": 1, "positive": True, "device": "pc", "more": 1},
    ],
)  # fmt: skip
def test_what_the_page_does_not_send_is_refused(client: Client, body: object) -> None:
    if isinstance(body, dict):
        body = {"revision": client.state["revision"], **body}
    assert client.request("POST", "/api/click", body).status == 400
    assert client.look() == {"status": 200} and client.state["clicks"] == []


def test_unknown_addresses(client: Client) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e%2fapp.py", "/nothing", "/static/nothing.js"):
        assert client.request("GET", path).status == 404
    assert client.request("GET", "/api/click").status == 405
    assert client.ask("switch", variant=0, name="dpe", value="off")["error"] == "disc has no switch dpe=off."
    assert "no variant number 7" in client.ask("switch", variant=7, name="dpe", value="off")["error"]


def test_a_kill_right_after_a_click_loses_nothing(tmp_path: Path) -> None:
    page = Served(tmp_path, "variant.delay_ms=400")
    client = Client(page)
    client.click(20, 20)
    connection = client.request("POST", "/api/click", {**_click(30, 30), "revision": client.state["revision"]})
    connection.readline()  # the state has come, the answer has not
    page.kill()
    with (tmp_path / "clicks.csv").open("a") as file:
        file.write("square0,,3,4")  # what a kill inside a write may leave
    with Served(tmp_path) as again:
        resumed = Client(again)
        assert resumed.state["clicks"] == [[20, 20, True], [30, 30, True]]
        np.testing.assert_array_equal(resumed.mask(), disc(20, 20) | disc(30, 30))
        resumed.click(5, 5)
    clicks = recording.read(tmp_path / "clicks.csv", "squares").episodes["square0"]["me"]
    assert [(c.y, c.x) for c in clicks] == [(20, 20), (30, 30), (5, 5)]
    assert {row.click for row in answers.read(tmp_path / "answers.csv")} == {1, 2, 3}


def test_a_browser_that_goes_away_stops_nothing(tmp_path: Path) -> None:
    with Served(tmp_path, "variant.delay_ms=300") as page:
        client = Client(page)
        response = client.request("POST", "/api/click", {**_click(30, 30), "revision": client.state["revision"]})
        response.readline()
        response.close()
        wait_for(lambda: len(answers.read(tmp_path / "answers.csv")) == 1)
        client.look()
        np.testing.assert_array_equal(client.mask(), disc(30, 30))


def test_variants_answer_the_same_clicks(tmp_path: Path) -> None:
    with Served(tmp_path, "+ablation=radius", variant="") as page:
        client = Client(page)
        assert [variant["title"] for variant in client.state["variants"]] == ["wide", "narrow"]
        client.click(20, 20)
        for number, radius in enumerate((12, 6)):
            np.testing.assert_array_equal(client.mask(number), disc(20, 20, radius))
    assert [row.variant for row in answers.read(tmp_path / "answers.csv")] == ["wide", "narrow"]


def test_a_variant_that_breaks_loses_no_click(tmp_path: Path) -> None:
    with Served(tmp_path, "variant.fail_on=second") as page:
        client = Client(page)
        client.click(20, 20)
        client.click(30, 30)
        assert "RuntimeError: this model breaks" in client.answers[0]["error"] and client.answers[0]["mask"] is None
        client.undo()
        np.testing.assert_array_equal(client.mask(), disc(20, 20))
    assert [row.click for row in read_rows(tmp_path / "clicks.csv").clicks] == [0, 1, 2, 2]


def test_images_of_a_folder(tmp_path: Path) -> None:
    """Without truth; an image that cannot be read is said and passed by."""
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "a.png"), np.full((30, 40, 3), 7, np.uint8))
    (images / "b.jpg").write_bytes(b"no image")
    cv2.imwrite(str(images / "c.png"), np.full((10, 3200, 3), 7, np.uint8))
    with Served(tmp_path / "out", f"images={images}", dataset="") as page:
        client = Client(page)
        assert not client.state["has_truth"] and client.state["count"] == 3
        client.click(5, 5)
        assert client.answers[0]["ious"] == [None]
        assert client.request("GET", f"/api/truth?revision={client.state['revision']}").status == 422
        client.ask("open", index=1)
        assert "cannot be decoded as an image" in client.state["trouble"] and client.answers == {}
        assert client.click(1, 1)["status"] == 422
        client.ask("open", index=2)
        assert (client.state["width"], client.state["shown_width"], client.state["shown_height"]) == (3200, 3072, 10)
        client.click(5, 3199)
        assert client.mask().shape == (10, 3072) and client.mask()[5, 3071]
    assert [(r.x, r.width) for r in read_rows(tmp_path / "out" / "clicks.csv").clicks][-1] == (3199, 3200)


def _click(y: int, x: int) -> dict[str, object]:
    return {"y": y, "x": x, "positive": True, "device": "pc"}


def test_what_the_command_refuses(tmp_path: Path) -> None:
    out = f"out={tmp_path}"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port={port} is in use" in refusal("variant=disc", "dataset=squares", out, f"port={port}")
    assert "Did you mean 'disc'" in refusal("variant=dics", "dataset=squares", out, "port=0")
    assert "Did you mean 'squares'" in refusal("variant=disc", "dataset=square", out, "port=0")
    assert "no such folder" in refusal("variant=disc", f"images={tmp_path}/none", out, "port=0")
    assert "Did you mean 'images'" in refusal("variant=disc", f"image={tmp_path}", out, "port=0")
    assert "unknown setting 'protocol.clicks'" in refusal("variant=disc", "protocol.clicks=3", out, "port=0")
    (tmp_path / "empty").mkdir()
    assert "no image file in it" in refusal("variant=disc", f"images={tmp_path}/empty", out, "port=0")


def test_one_user_clicks_in_one_place(served: Served) -> None:
    said = refusal("variant=disc", "dataset=squares", f"out={served.out}", "port=0")
    assert "user 'me' clicks in" in said and "already" in said


def test_it_ends_as_every_command_does(tmp_path: Path) -> None:
    page = Served(tmp_path)
    page.process.send_signal(signal.SIGINT)
    said, _ = page.process.communicate(timeout=60)
    assert page.process.returncode == 130 and "Everything finished so far is on disk" in " ".join(said.split())
