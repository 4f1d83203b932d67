"""Words that agree with the tables: runs that would have made the old sentences and exit codes false."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
import yaml
from simulated import NearestClick
from test_reports_numbers import planted
from test_reports_pictures import SIMULATED

import reports
from reports import __main__ as command
from reports.episodes import replay
from reports.pages import page
from reports.read import frames
from reports.read.runs import Run
from reports.tables import baselines

PROTOCOL = {"name": "ritm", "clicks": 20, "stop_iou": None, "targets": [0.8, 0.85, 0.9, 0.95]}


def folder_of(out: Path, clicks: Sequence[pd.DataFrame], base: str = "near", **config: object) -> Path:
    """The folder of a sweep with these rows and nothing else; its tables are made of them."""
    out.mkdir(parents=True)
    pd.concat(list(clicks)).to_parquet(out / "clicks.parquet")
    whole = {"ablation": {"name": out.name, "title": out.name, "base": base}, "protocol": PROTOCOL, **config}
    (out / "config.yaml").write_text(yaml.safe_dump(whole))
    (out / "machine.json").write_text("{}")
    return out


def words(html: str) -> str:
    """The text of a page's summary."""
    summary = html[html.index('<section id="summary">') : html.index("</section>")]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", summary)).split())


def headline(run: Run) -> str:
    return words(page.render(run, [], []))


def test_a_loss_on_five_of_six_samples_is_not_called_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """12.7 clicks lost on average; once "Nothing got worse by more than its 95 % interval", and exit code 0."""
    old = folder_of(tmp_path / "old", [planted("near", [1, 2, 3, 4, 2, 5])])
    new = folder_of(tmp_path / "new", [planted("near", [17, 18, 18, 19, 16, 5])])
    assert command.run(["history", str(old), str(new), f"out={tmp_path / 'h'}"]) == 3
    said = words((tmp_path / "h" / "index.html").read_text())
    assert "Nothing got worse" not in said
    assert "NoC@90 too few samples to tell (5 samples differ; the smallest possible p is 0.062)" in said
    assert "cannot tell: near on shapes" in capsys.readouterr().err


def test_history_of_runs_that_cannot_be_compared_does_not_exit_0(tmp_path: Path, capsys) -> None:
    old = folder_of(tmp_path / "old", [planted("near", [3] * 8)])
    new = folder_of(tmp_path / "new", [planted("near", [9] * 8)], protocol={**PROTOCOL, "stop_iou": 0.95})
    other = folder_of(tmp_path / "other", [planted("colourful", [9] * 8)])
    for later, word in ((new, "not compared: different protocols"), (other, "not compared: only in old")):
        assert command.run(["history", str(old), str(later), f"out={tmp_path / 'h'}"]) == 3
        assert word in capsys.readouterr().err
        said = words((tmp_path / "h" / "index.html").read_text())
        assert "Nothing got worse" not in said and word in said
        assert command.run(["compare", str(old), str(later), f"out={tmp_path / 'c'}"]) == 3


def test_versions_never_share_a_column(tmp_path: Path) -> None:
    """Protocol version 2 of the same name: no difference is taken, and the history has a table for each."""
    rows = planted("near", [3] * 8)
    old = folder_of(tmp_path / "old", [rows.assign(protocol_version=1, metrics_version=1)])
    new = folder_of(tmp_path / "new", [rows.assign(protocol_version=1, metrics_version=2)])
    assert command.run(["history", str(old), str(new), f"out={tmp_path / 'h'}"]) == 3
    lines = {name: (tmp_path / "h" / f"{name}.csv").read_text().splitlines() for name in ("timeline", "timeline_2")}
    assert [len(text) for text in lines.values()] == [2, 2]
    assert lines["timeline"][1].startswith("old") and lines["timeline_2"][1].startswith("new")
    # Within one folder too: rows of the newest version are shown, the others are counted.
    both = folder_of(
        tmp_path / "both", [rows.assign(metrics_version=1), planted("near", [5] * 8).assign(metrics_version=2)]
    )
    run = frames.read(both)
    value = run.summary.set_index(["metric", "size_bin"]).loc[("noc90", "all")]
    assert (value["value"], value["samples"]) == (5, 8)
    assert any("160 rows were made under other rules" in note for note in run.notes)


def test_one_failed_image_does_not_hide_a_loss(tmp_path: Path) -> None:
    """50 samples, one fails later: 49 pairs show the loss; unpaired, its interval once held zero."""
    counts = [2 + (i * 7) % 17 for i in range(50)]
    old = folder_of(tmp_path / "old", [planted("near", counts)])
    new = folder_of(tmp_path / "new", [planted("near", [n + 1 for n in counts[:49]])])
    assert command.run(["history", str(old), str(new), f"out={tmp_path / 'h'}"]) == 1
    changes = pd.read_csv(tmp_path / "h" / "changes.csv").set_index("metric")
    line = changes.loc["NoC@90 (primary)"]
    assert line["how"] == "paired, 49 samples; 1 only before" and line["verdict"] == "worse"
    assert line["difference"] == pytest.approx(1.0)
    before = sum(counts[:49]) / 49
    assert line["before"] == pytest.approx(before)  # of the samples that both have
    assert line["p_value"] < 0.01


def test_the_page_calls_a_difference_by_what_its_table_says(tmp_path: Path) -> None:
    """A p above 0.05 under an interval that excludes zero once read "No difference … its interval would show"."""
    rows = [planted("near", [2, 3, 4, 3, 2, 3]), planted("colourful", [5, 6, 8, 3, 2, 6])]
    run = frames.read(folder_of(tmp_path / "run", rows))
    (line,) = [x for x in run.compare.to_dict("records") if x["metric"] == "noc90" and x["size_bin"] == "all"]
    assert line["difference"] == pytest.approx(13 / 6) and line["p_value"] > 0.05
    said = headline(run)
    assert "its 95 % interval would show" not in said
    assert "NoC@90: too few samples to tell (at most 4 samples differ; the smallest possible p is 0.12)" in said


def test_no_difference_and_a_shown_one_are_said_so_and_counted(tmp_path: Path) -> None:
    counts = [3 + i % 6 for i in range(24)]
    rows = [
        planted("near", counts),
        planted("colourful", [n + 2 for n in counts]),
        planted("third", [n + (1 if i % 2 else -1) for i, n in enumerate(counts)]),
    ]
    said = headline(frames.read(folder_of(tmp_path / "run", rows)))
    assert "worse colourful on shapes: NoC@90 +2.00" in said
    assert "NoC@90: no difference shown in 1 comparison." in said
    # 2 variants against the base; noc80..95, nof90, nof95, miou1, 3, 5, biou5, iou_drop, auc: 12 metrics each.
    assert "This page makes 24 comparisons of quality: 2 of the primary metric" in said
    assert "22 of other metrics, whose p are adjusted by Holm's method" in said


def test_the_metric_that_counts_can_be_another(tmp_path: Path) -> None:
    """The same rows: IoU after click 5 as the metric that was named beforehand is read without adjustment."""
    rows = [planted("near", [3] * 8), planted("colourful", [7] * 6 + [3] * 2)]
    usual = frames.read(folder_of(tmp_path / "usual", rows))
    other = frames.read(folder_of(tmp_path / "other", rows, primary="miou5"))
    assert (usual.primary, other.primary) == ("noc90", "miou5")
    p = {
        r: run.compare.set_index(["metric", "size_bin"]).loc[("miou5", "all")]
        for r, run in (("u", usual), ("o", other))
    }
    assert p["o"]["p_holm"] == pytest.approx(0.03125) == p["o"]["p_value"]  # 2 / 2^6
    assert p["u"]["p_holm"] > 0.05
    assert "worse colourful on shapes: 5-mIoU" in headline(other) and "5-mIoU" not in headline(usual)


def test_one_variant_compares_nothing_and_says_so(tmp_path: Path) -> None:
    said = headline(frames.read(folder_of(tmp_path / "run", [planted("near", [3] * 8)])))
    assert "Nothing was compared: this run has no two variants" in said and "No difference" not in said


def test_untrained_weights_are_not_compared(tmp_path: Path) -> None:
    rows = [planted("near", [3] * 8), planted("random", [9] * 8), planted("colourful", [3] * 8)]
    said = headline(frames.read(folder_of(tmp_path / "run", rows)))
    assert "1 comparison not compared: untrained weights" in said and "worse random" not in said


def test_tables_of_older_statistics_are_made_anew_from_the_rows(tmp_path: Path) -> None:
    out = folder_of(tmp_path / "run", [planted("near", [3] * 8), planted("colourful", [7] * 8)])
    old = {"variant": "near", "dataset": "shapes", "metric": "noc90", "value": 99.0, "low": 1.0, "high": 100.0}
    pd.DataFrame([{**old, "samples": 8, "protocol": "ritm", "size_bin": "all"}]).to_csv(
        out / "summary.csv", index=False
    )
    run = frames.read(out)
    assert run.summary.set_index(["variant", "metric", "size_bin"]).loc[("near", "noc90", "all"), "value"] == 3
    assert any("made anew from the rows" in note for note in run.notes)
    assert len(run.compare) and run.compare["p_holm"].notna().any()


def test_another_order_than_published_needs_intervals_apart(tmp_path: Path) -> None:
    from test_reports_baselines import systems_run

    def order(change) -> list[str]:
        def changed(rows: pd.DataFrame) -> pd.DataFrame:
            # interformer_light is published slower than sam_hq_vit_b; here SAM-HQ takes a little more.
            rows = rows[rows["variant"].isin(["interformer_light", "sam_hq_vit_b"])].copy()
            slow = rows["variant"] == "sam_hq_vit_b"
            rows["median_ms"] = slow.map({True: 105.0, False: 100.0})
            return change(rows)

        notes = baselines.table(systems_run(tmp_path, changed)).notes
        return [n for n in notes if n.startswith("Other order than published")]

    def spread(rows: pd.DataFrame, share: float, **columns: object) -> pd.DataFrame:
        return rows.assign(low_ms=rows["median_ms"] * (1 - share), high_ms=rows["median_ms"] * (1 + share), **columns)

    assert order(lambda rows: spread(rows, 0.01))
    assert not order(lambda rows: spread(rows, 0.10))
    assert not order(lambda rows: spread(rows, 0.01, contended="other load 1.2 CPUs"))


def test_the_whole_page_of_such_runs_can_be_made(tmp_path: Path) -> None:
    out = folder_of(tmp_path / "run", [planted("near", [3] * 4), planted("colourful", [7] * 3)])
    html = reports.build(out).read_text()
    assert "3 <small>of 4</small>" in html


def test_a_part_of_an_episode_is_no_whole_one(folder: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(folder, tmp_path / "run"))
    rows = pd.read_csv(out / "latency.csv")
    for workload, version, word in (
        ("recorded episodes, clicks 1 to 3 of 20", 2, "are means of a part of an episode: clicks 1 to 3 of 20."),
        ("recorded episodes", 1, "an older definition: Online SPC and 20-SPC hold clicks 2 and 3"),
    ):
        rows.assign(workload=workload, timing_version=version).to_csv(out / "latency.csv", index=False)
        assert any(word in note for note in frames.read(out).notes)
    rows.assign(workload="recorded episodes").to_csv(out / "latency.csv", index=False)
    assert not any("Online SPC" in note for note in frames.read(out).notes)


def test_replayed_masks_take_the_protocols_threshold(folder: Path, tmp_path: Path) -> None:
    """Rows of a run with another threshold: the replay scores as they do, and not as the segmenter's own."""
    out = Path(shutil.copytree(folder, tmp_path / "run"))
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["protocol"]["threshold"] = 0.3
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    plain, other = (
        replay.Replayer(frames.read(path), trust=SIMULATED).episode("near", "shapes", "shape_00")
        for path in (folder, out)
    )
    session = None
    for step, usual in zip(other.steps, plain.steps, strict=True):
        if session is None:
            segmenter = NearestClick()
            session = segmenter.start(segmenter.encode(other.sample.image))
        scores = session.click(step.click)
        assert (step.mask == (scores > 0.3)).all() and (usual.mask == (scores > 0)).all()
    assert any((a.mask != b.mask).any() for a, b in zip(other.steps, plain.steps, strict=True))
