"""A study's file, the order of its samples, and taking it up again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from served_page import FOLDER, Client, Served, refusal

from harness.clicking.recorded_rows import read_rows
from harness.clickpage import study
from harness.errors import UserError
from harness.planning.config import Config

STUDY = "dataset: squares\nvariants: [disc]\n"


def written(folder: Path, text: str) -> str:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def names(text: str, folder: Path, user: str = "anna") -> list[str]:
    return list(study.read(written(folder, text)).pictures(Config(FOLDER), user).names)


def test_what_a_file_says(tmp_path: Path) -> None:
    asked = study.read(written(tmp_path, STUDY))
    assert (asked.title, asked.clicks, asked.order, asked.iou, asked.truth) == ("small", 20, "listed", True, True)
    assert asked.out == Path("runs/small")
    text = (
        "dataset: {dataset: squares, count: 3}\nvariants: {wide: {variant: disc, radius: 20}}\nclicks: 5\niou: false\n"
    )
    asked = study.read(written(tmp_path, text))
    assert (asked.clicks, asked.iou) == (5, False)
    (variant,) = asked.chosen_variants(Config(FOLDER))
    assert variant.name == "wide" and variant.config["radius"] == 20
    assert asked.pictures(Config(FOLDER), "anna").names == ["square0", "square1", "square2"]


def test_samples_and_their_order(tmp_path: Path) -> None:
    assert names(STUDY + "samples: 2\n", tmp_path) == ["square0", "square1"]
    assert names(STUDY + "samples: [square3, square0]\n", tmp_path) == ["square3", "square0"]
    shuffled = STUDY.replace("squares", "{dataset: squares, count: 20}") + "order: shuffled\n"
    orders = {user: names(shuffled, tmp_path, user) for user in ("anna", "ben", "carl")}
    assert all(sorted(order) == sorted(orders["anna"]) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 3  # 20! orders: equal ones would be no accident
    assert orders["anna"] == names(shuffled, tmp_path, "anna") != sorted(orders["anna"])


@pytest.mark.parametrize(
    "text, said",
    [
        ("variants: [disc]\n", "give either `dataset: NAME`"),
        (STUDY + "images: x\n", "give either `dataset: NAME`"),
        ("dataset: squares\n", "variants='None' is not a list of names"),
        (STUDY + "click: 5\n", "unknown setting 'click'. Did you mean 'clicks'?"),
        (STUDY + "clicks: 0\n", "clicks='0' is not a whole number from 1"),
        (STUDY + "clicks: true\n", "clicks='True' is not a whole number"),
        (STUDY + "order: random\n", "order='random'. Allowed: listed, shuffled."),
        (STUDY + "iou: maybe\n", "iou='maybe' is not true or false"),
        (STUDY + "samples: [square0, square0]\n", "is not a list of names, each once"),
        (STUDY + "samples: []\n", "is not a list of names, each once"),
        (STUDY + "samples: [sqare0]\n", "has no sample 'sqare0'. Did you mean 'square0'?"),
        ("dataset: {root: x}\nvariants: [disc]\n", "settings with a name"),
        ("dataset: sqares\nvariants: [disc]\n", "unknown dataset 'sqares'. Did you mean 'squares'?"),
        ("dataset: {dataset: squares, _target_: os.system}\nvariants: [disc]\n", "dataset sets '_target_'"),
        ("dataset: squares\nvariants: {a: {variant: disc, _target_: os.system}}\n", "a sets '_target_'"),
        ("- a\n", "holds a sequence"),
        ("title: [a\n", "cannot be read as YAML"),
    ],
)
def test_a_wrong_file_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        study.read(written(tmp_path, text)).pictures(Config(FOLDER), "anna")
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("user", ["", "a b", "../x", "a/b", "x" * 65, "a\n"])
def test_names_that_are_no_user(user: str) -> None:
    with pytest.raises(UserError, match="a name of 1 to 64"):
        study.check_user(user)


def test_a_study_goes_forward_and_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    file = written(tmp_path, STUDY + f"samples: 3\nclicks: 2\niou: false\ntruth: false\nout: {tmp_path}/out\n")
    given = {"dataset": "", "variant": ""}
    with Served(tmp_path / "out", f"study={file}", "user=anna", f"out={tmp_path}/out", **given) as page:
        client = Client(page)
        assert client.state["rules"]["study"] and client.state["count"] == 3 and not client.state["has_truth"]
        client.click(20, 20)
        assert client.answers[0]["ious"] == [None]  # iou: false
        client.click(30, 30)
        assert "2 clicks are the limit" in client.click(40, 40)["error"]
        assert client.request("GET", f"/api/truth?revision={client.state['revision']}").status == 422
        assert client.ask("open", index=2)["status"] == 422
        client.ask("open", index=1)
        assert client.ask("open", index=0)["status"] == 422
        assert (
            client.ask("switch", variant=0, name="dpe", value="off")["error"] == "switches stay as they are in a study."
        )
        client.click(10, 10)
        assert "user 'anna' clicks in" in refusal(f"study={file}", "user=anna", "port=0")
    with Served(tmp_path / "out", f"study={file}", "user=anna", f"out={tmp_path}/out", **given) as page:
        client = Client(page)
        assert client.state["index"] == 1 and client.state["clicks"] == [[10, 10, True]]
        assert client.state["seconds"] == [None]
        client.ask("open", index=2)
        client.ask("open", index=3)
        assert client.state["finished"] and client.click(1, 1)["error"] == "this study is finished. Thank you."
    with Served(tmp_path / "out", f"study={file}", "user=ben", f"out={tmp_path}/out", **given) as page:
        assert Client(page).state["index"] == 0
    rows = read_rows(tmp_path / "out" / "clicks.csv").clicks
    assert [(r.user, r.sample, r.action) for r in rows][:3] == [
        ("anna", "square0", "show"), ("anna", "square0", "click"), ("anna", "square0", "click"),
    ]  # fmt: skip
    assert all(not math.isnan(row.time) for row in rows)
    assert all(a.time <= b.time for a, b in zip(rows, rows[1:], strict=False))


def test_what_a_study_needs(tmp_path: Path) -> None:
    file = written(tmp_path, STUDY)
    assert "who clicks? Give user=NAME" in refusal(f"study={file}", "port=0")
    assert "dataset: a study's file says that" in refusal(f"study={file}", "user=a", "dataset=squares", "port=0")
    assert "no such file" in refusal("study=/none.yaml", "user=a", "port=0")
