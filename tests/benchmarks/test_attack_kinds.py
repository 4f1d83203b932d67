"""Short forms of benchmarks/attack.py's other kinds: the same inputs and questions, in this process where they let it.

What a kind expects is closed: the rows of good variants and samples as they are without the hostile input, exactly the
bad ones in failures.csv, every stored line still there.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import attack  # noqa: E402
from benchmarks.attacks import Attack, _sweeps, configurations, samples, segmenters, state  # noqa: E402
from harness import cli, doctor, sweep  # noqa: E402


def here(arguments: tuple[str, ...]) -> attack.Ended:
    """The command in this process."""
    command = {"harness.sweep": sweep.run, "harness.doctor": doctor.run}[arguments[0]]
    text, before = io.StringIO(), sys.argv
    sys.argv = list(arguments)
    try:
        with contextlib.redirect_stderr(text), contextlib.redirect_stdout(io.StringIO()):
            cli.main_guard(command)()
    except SystemExit as end:
        return attack.Ended(int(end.code or 0), text.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("a command ends with an exit code")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Sweeps without hostile input run here, too."""

    def seed(arguments):
        ended = here(tuple(arguments))
        assert ended.code == 0, ended.text

    for kind in (configurations, samples, segmenters, state):
        monkeypatch.setattr(kind, "seed", seed)


def clear(item: Attack) -> None:
    """The attack's outcome is the one good column."""
    column, why = attack.run(item, lambda given: here(given.arguments))
    assert column == "clear", (item.name, why)


def chosen(kind, folder: Path, names: list[str]) -> list[Attack]:
    """Those attacks; what a kind writes for later ones is not written."""
    found = []
    for item in kind.attacks(folder):
        if item.name in names:
            clear(item)
            found.append(item)
        if len(found) == len(names):
            return found
    raise AssertionError(f"only {[item.name for item in found]} of {names}")


def test_every_kind_is_found():
    assert {"checkpoints", "configurations", "samples", "segmenters", "state"} <= set(attack.kinds())


def test_files_of_the_user(tmp_path):
    names = ["variant merge", "variant alias-bomb", "variant function", "variant keys", "ablation system",
             "dataset binary", "variants=[nan]", "between settings"]  # fmt: skip
    chosen(configurations, tmp_path, names)


def test_bad_samples_among_good_ones(tmp_path):
    (images, masks, matlab) = chosen(samples, tmp_path, ["broken images", "broken masks", "MATLAB files"])
    assert images.inputs >= 33 and masks.inputs >= 33 and matlab.inputs >= 15


def test_models_that_misbehave_beside_good_ones(tmp_path):
    raising, answering = chosen(segmenters, tmp_path, ["raising_click", "answering"])
    assert raising.inputs + answering.inputs >= 28


@pytest.mark.slow  # 38 cells
def test_damaged_cells_of_a_folder_that_is_resumed(tmp_path):
    (cells,) = chosen(state, tmp_path, ["cells"])
    assert cells.inputs >= 36


def test_the_questions_see_what_is_missing_and_unsaid(tmp_path):
    """Rows taken out, a failure that nobody names, one named in vain: each is seen."""
    mine, out = segmenters.user_folder(tmp_path / "mine"), tmp_path / "out"
    assert here(_sweeps.sweep(mine, out, "variant=disc", *segmenters.DATA)).code == 0
    good = _sweeps.rows(out)
    assert len(good) == 4 and _sweeps.whole(out, good)() == ""
    changed = good.assign(iou=good["iou"] + 1e-9)
    assert "good rows" in _sweeps.whole(out, changed)() and "no clicks" in _sweeps.whole(tmp_path, good)()
    (out / "failures.csv").write_text("variant,sample,error\na,b,broken\n")
    assert _sweeps.failed(out, [("a", "b")])() == ""
    assert "not named [('c', 'd')], in vain [('a', 'b')]" in _sweeps.failed(out, [("c", "d")])()


def test_a_line_set_aside_is_kept_and_a_line_dropped_is_lost(tmp_path):
    rows = tmp_path / "rows.jsonl"
    item = Attack("x", (), tmp_path / "executed", (rows,), harmless=True)

    def outcome(after: bytes, aside: bytes) -> str:
        rows.write_bytes(b"a\nb\nc\ntorn")

        def command(given: Attack) -> attack.Ended:
            rows.write_bytes(after)
            (tmp_path / "rows.jsonl.damaged").write_bytes(aside)
            return attack.Ended(0, "")

        (tmp_path / "rows.jsonl.damaged").unlink(missing_ok=True)
        return attack.run(item, command)[0]

    assert outcome(b"a\nc\n", b"b\n") == "clear"
    assert outcome(b"a\nc\n", b"") == "lost"
