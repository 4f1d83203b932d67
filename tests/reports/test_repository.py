"""A run comes into a repository whole and unchanged, or not at all; what is there is held against its record."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from harness.errors import UserError
from harness.results.schema import CLICK_COLUMNS
from harness.scoring import metrics
from reports.__main__ import run as command
from reports.repository import naming, store
from reports.repository.entry import Entry
from reports.repository.submit import submit
from reports.trend.gate import gate

SAMPLES = 6


@pytest.fixture
def copied(small_run: Path, tmp_path: Path) -> Path:
    """The same run, to be changed."""
    return Path(shutil.copytree(small_run, tmp_path / "run"))


def cell_file(run: Path) -> Path:
    """The one cell of the run."""
    (path,) = (run / "cells").glob("*.jsonl")
    return path


def change_lines(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Rewrite every record of a cell's file; a record for which `change` gives False is left out."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [record for record in records if change(record) is not False]
    path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in kept))


def refusal(run: Path, to: Path) -> str:
    """The one line with which a run is refused; nothing is left in the repository."""
    with pytest.raises(UserError) as caught:
        command(["submit", f"run={run}", f"to={to}"])
    assert not to.exists() or not [p for p in to.rglob("*") if p.is_file()]
    text = str(caught.value)
    assert text.startswith("refused: ") and "\n" not in text
    return text


def test_an_entry_holds_what_the_sweep_measured(small_run: Path, repository: Path) -> None:
    """Expected: clicks.parquet and summary.csv of the sweep, which another part of the code wrote."""
    (stored,) = store.read(repository).stored
    clicks = pd.read_parquet(small_run / "clicks.parquet").sort_values(["sample", "click"]).reset_index(drop=True)
    for name in ("sample", "image", "click", "y", "x", "positive", "iou", "biou", "object_share", "height", "width"):
        assert stored.rows[name].tolist() == clicks[name].tolist(), name
    assert (stored.rows["online_ms"] - clicks["online_ms"]).abs().max() <= 0.006  # kept to 0.01 ms
    summary = pd.read_csv(small_run / "summary.csv")
    for line in summary.to_dict("records"):
        value, low, high = stored.value(line["metric"], line["size_bin"]) or (None, None, None)
        assert [value, low, high] == pytest.approx([line["value"], line["low"], line["high"]], nan_ok=True)
    assert stored.entry.data.samples == SAMPLES and stored.entry.system == "geodesic"
    assert stored.entry.path.startswith("geodesic/scenes/ritm+clicks=6/")


def test_a_second_submission_changes_nothing(small_run: Path, repository: Path) -> None:
    before = {p: p.read_bytes() for p in repository.rglob("*") if p.is_file()}
    result = submit(small_run, repository)
    assert not result.written and len(result.present) == 1
    assert {p: p.read_bytes() for p in repository.rglob("*") if p.is_file()} == before


def test_no_path_and_no_host_name_comes_along(repository: Path, small_run: Path) -> None:
    node = json.loads((small_run / "machine.json").read_text())["node"] if (small_run / "machine.json").exists() else ""
    for path in repository.rglob("*.json"):
        text = path.read_text()
        assert str(small_run) not in text and "/tmp" not in text
        assert '"node"' not in text and (not node or f'"{node}"' not in text)


def raise_iou(record: dict[str, Any]) -> None:
    for click in record.get("clicks", ())[:1]:
        click["iou"] = min(1.0, click["iou"] + 0.05)


def in_rows(run: Path) -> None:
    frame = pd.read_parquet(run / "clicks.parquet")
    frame.loc[3, "iou"] += 0.01
    frame.to_parquet(run / "clicks.parquet")


def in_cells(run: Path) -> None:
    change_lines(cell_file(run), raise_iou)


def in_both(run: Path) -> None:
    """Raw lines and rows agree, but summary.csv is of before."""
    in_cells(run)
    frame = pd.read_parquet(run / "clicks.parquet")
    first = frame["click"] == 1
    frame.loc[first, "iou"] = (frame.loc[first, "iou"] + 0.05).clip(upper=1.0)
    frame.to_parquet(run / "clicks.parquet")


def in_summary(run: Path) -> None:
    frame = pd.read_csv(run / "summary.csv")
    frame.loc[frame["metric"] == "noc90", "low"] -= 0.1
    frame.to_csv(run / "summary.csv", index=False)


def sample_of(run: Path) -> str:
    return json.loads(cell_file(run).read_text().splitlines()[-1])["sample"]


def cut_everywhere(run: Path) -> None:
    """One sample is gone from the raw lines, the rows and the summary."""
    name = sample_of(run)
    change_lines(cell_file(run), lambda record: record.get("sample") != name)
    frame = pd.read_parquet(run / "clicks.parquet")
    frame[frame["sample"] != name].to_parquet(run / "clicks.parquet")
    for file in ("summary.csv", "compare.csv"):
        (run / file).unlink(missing_ok=True)


def cut_by_limit(run: Path) -> None:
    def limit(record: dict[str, Any]) -> None:
        if "dataset_config" in record:
            record["dataset_config"]["limit"] = 4

    change_lines(cell_file(run), limit)


def failed_sample(run: Path) -> None:
    name = sample_of(run)

    def fail(record: dict[str, Any]) -> None:
        if record.get("sample") == name:
            record.clear()
            record.update(sample=name, error="out of memory", traceback="")

    change_lines(cell_file(run), fail)


def other_data_digest(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        if "dataset_digest" in record:
            record["dataset_digest"] = "0" * 32

    change_lines(cell_file(run), change)


def other_config_digest(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    for entry in config["datasets"].values():
        entry["digest"] = "f" * 32
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def other_settings(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        if "variant_config" in record:
            record["variant_config"]["iterations"] = 99

    change_lines(cell_file(run), change)


def called_trained(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        if "origin" in record:
            record["origin"].update(weights_status="released", weights_digest="")

    change_lines(cell_file(run), change)
    frame = pd.read_parquet(run / "clicks.parquet").assign(weights_status="released")
    frame.to_parquet(run / "clicks.parquet")


def outside_click(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        for click in record.get("clicks", ())[1:2]:
            click["x"] = 5000

    change_lines(cell_file(run), change)


def too_many_clicks(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        if record.get("clicks"):
            record["clicks"].append({**record["clicks"][-1], "click": len(record["clicks"]) + 1})

    change_lines(cell_file(run), change)


def several_episodes(run: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        if record.get("clicks"):
            record["groups"] = [{"group": "1", "clicks": record["clicks"]}]

    change_lines(cell_file(run), change)


def foreign_rows(run: Path) -> None:
    frame = pd.read_parquet(run / "clicks.parquet")
    pd.concat([frame, frame.assign(variant="stranger")]).to_parquet(run / "clicks.parquet")


TAMPERED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a row of clicks.parquet": (in_rows, r"clicks\.parquet, .* click \d+: iou is .* one of them was changed"),
    "a raw line": (in_cells, r"clicks\.parquet, .* iou is .* in cells/"),
    "rows and raw lines": (in_both, r"summary\.csv: .* the rows give"),
    "an interval": (in_summary, r"summary\.csv: .*noc90.*low is"),
    "a sample less": (
        cut_everywhere,
        rf"cut sample set: {SAMPLES - 1} samples have episodes, config\.yaml has {SAMPLES}",
    ),
    "a limit": (cut_by_limit, r"dataset\.limit=4|wrong digest"),
    "a failed sample": (failed_sample, r"1 samples failed"),
    "digest of the data": (other_data_digest, r"wrong digest"),
    "digest in config.yaml": (other_config_digest, r"wrong digest: config\.yaml"),
    "settings": (other_settings, r"wrong digest: variant, weights"),
    "untrained as released": (called_trained, r"without a digest of the weights|name no weights"),
    "a click outside": (outside_click, r"lies outside of the image"),
    "more clicks": (too_many_clicks, r"7 clicks, the protocol allows 6"),
    "several episodes a sample": (several_episodes, r"several episodes a sample"),
    "rows of nobody": (foreign_rows, r"rows of stranger"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_what_was_changed_is_refused_with_the_line_that_says_why(kind: str, copied: Path, tmp_path: Path) -> None:
    change, words = TAMPERED[kind]
    change(copied)
    assert re.search(words, refusal(copied, tmp_path / "repository"))


def test_untrained_rows_never_come_in_as_trained(copied: Path, tmp_path: Path) -> None:
    """Settings without weights and rows that call themselves trained, with a digest that looks right."""

    def change(record: dict[str, Any]) -> None:
        if "variant_config" in record:
            record["variant_config"]["weights"] = None
        if "origin" in record:
            record["origin"].update(weights_status="trained here", weights_digest="0123456789abcdef")

    change_lines(cell_file(copied), change)
    refusal(copied, tmp_path / "repository")
    from reports.read.frames import read
    from reports.repository import checks

    (cell,) = checks.raw_cells(read(copied))
    assert any("untrained rows as trained" in text for text in checks._weights(cell))


def test_the_packaged_weights_are_known_by_their_digests() -> None:
    """known.json against the segmenters: every state of the switches that chooses a file, and the baselines."""
    from baselines.dense_lite import DenseLite
    from baselines.sam_lite import SamLite
    from inter2former.segmenter import Inter2FormerSegmenter
    from reports.repository import checks

    states = itertools.product(("on", "full", "bsq", "vq"), ("on", "shared", "dense"))
    built = [Inter2FormerSegmenter("lite", dha=a, hmoe=h, weights="default") for a, h in states]
    digests = {one.weights_digest for one in [*built, DenseLite(weights="default"), SamLite(weights="default")]}
    assert digests == set(checks._known()["packaged_weights"])


def test_other_weights_under_the_name_of_the_packaged_ones(copied: Path) -> None:
    """Rows of weights of one's own that call themselves the packaged ones."""
    from reports.read.frames import read
    from reports.repository import checks

    def change(record: dict[str, Any]) -> None:
        if "variant_config" in record:
            record["variant_config"]["weights"] = "default"
        if "origin" in record:
            record["origin"].update(weights_status="trained here", weights_digest="0123456789abcdef")

    change_lines(cell_file(copied), change)
    (cell,) = checks.raw_cells(read(copied))
    assert any("wrong digest: rows say 'trained here'" in text for text in checks._weights(cell))


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["rows.parquet", "summary.csv"])
def test_a_changed_file_in_a_repository_is_named(name: str, repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    (path,) = copy.rglob(name)
    spoil(path)
    found = store.read(copy)
    assert not found.stored and len(found.refused) == 1
    assert found.refused[0].startswith("geodesic/scenes/") and name in found.refused[0]
    assert command(["submit", f"to={copy}"]) == 2


def test_rows_that_fit_their_file_but_not_the_record_are_refused(repository: Path, tmp_path: Path) -> None:
    """Whoever changes a row and writes the file's new digest into entry.json has not changed the rows' digest."""
    from hashlib import sha256

    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    (path,) = copy.rglob("rows.parquet")
    frame = pd.read_parquet(path)
    frame.loc[0, "iou"] = 1.0
    frame.to_parquet(path, index=False)
    record = json.loads((path.parent / "entry.json").read_text())
    record["files"]["rows.parquet"] = sha256(path.read_bytes()).hexdigest()
    (path.parent / "entry.json").write_text(json.dumps(record))
    assert "wrong digest" in store.read(copy).refused[0]


def test_a_summary_with_a_digest_that_fits_is_made_anew(repository: Path, tmp_path: Path) -> None:
    """Whoever changes an interval and the digests with it is found: the interval is made again from the rows."""
    from hashlib import sha256

    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    (path,) = copy.rglob("summary.csv")
    frame = pd.read_csv(path)
    frame.loc[frame["metric"] == "miou5", "high"] += 0.001
    frame.to_csv(path, index=False)
    record = json.loads((path.parent / "entry.json").read_text())
    record["files"]["summary.csv"] = sha256(path.read_bytes()).hexdigest()
    (path.parent / "entry.json").write_text(json.dumps(record))
    assert re.search(r"high of miou5 \(.*\) is not what the rows give", store.read(copy).refused[0])
    path.write_text("a,b\n1,2\n")
    record["files"]["summary.csv"] = sha256(path.read_bytes()).hexdigest()
    (path.parent / "entry.json").write_text(json.dumps(record))
    assert "summary.csv lacks the column size_bin" in store.read(copy).refused[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(system="../../elsewhere"),
        lambda r: r.update(system="other"),
        lambda r: r["data"].update(name="a/b"),
        lambda r: r.update(surprise=1),
        lambda r: r.pop("rows"),
        lambda r: r.update(form=99),
        lambda r: r["files"].update({"../../x.csv": "0"}),
    ],
)
def test_a_record_that_is_none_is_left_out(
    change: Callable[[dict[str, Any]], Any], repository: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    (path,) = copy.rglob("entry.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    found = store.read(copy)
    assert not found.stored and "entry.json" in found.refused[0] or "form 99" in found.refused[0]


def test_links_are_not_followed(repository: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    (path,) = copy.rglob("rows.parquet")
    moved = path.rename(tmp_path / "elsewhere.parquet")
    path.symlink_to(moved)
    assert "no plain file" in store.read(copy).refused[0]


def test_the_schema_says_what_the_record_is(repository: Path) -> None:
    """entry.schema.json, which others read, against the dataclass that this project reads with."""
    import dataclasses
    from importlib import resources

    schema = json.loads((resources.files("reports.repository") / "entry.schema.json").read_text())
    assert set(schema["properties"]) == {f.name for f in dataclasses.fields(Entry)}
    (path,) = repository.rglob("entry.json")
    record = json.loads(path.read_text())
    assert set(schema["required"]) == set(record)
    kinds = {"string": str, "integer": int, "object": dict, "array": list}
    for name, value in record.items():
        assert isinstance(value, kinds[schema["properties"][name]["type"]]), name
        for inner, rule in schema["properties"][name].get("properties", {}).items():
            assert inner in value and (not isinstance(rule["type"], str) or rule["type"] in ("number", "boolean")
                                       or isinstance(value[inner], kinds[rule["type"]])), (name, inner)  # fmt: skip


def test_verified_by_a_rerun(small_run: Path, repository: Path, tmp_path: Path) -> None:
    """A rerun of the same gives equal rows; a run whose rows are worse throughout bears nothing out."""
    from reports.repository.verify import verify

    copy = Path(shutil.copytree(repository, tmp_path / "repository"))
    ((_, record, text),) = verify(small_run, copy)
    assert record is None and "no rerun" in text
    rerun = Path(shutil.copytree(small_run, tmp_path / "rerun"))

    def later(record: dict[str, Any]) -> None:
        if "origin" in record:
            record["origin"]["at"] = "2030-01-01T00:00:00+00:00"

    change_lines(cell_file(rerun), later)
    ((stored, record, _),) = verify(rerun, copy)
    assert record is not None and (record.outcome, record.differing, record.samples) == ("equal", 0, SAMPLES)
    assert store.open_entry(stored.folder).verification == record

    change_lines(cell_file(rerun), lambda r: [c.update(iou=c["iou"] * 0.2) for c in r.get("clicks", ())] and None)
    rows = pd.read_parquet(rerun / "clicks.parquet")
    rows.assign(iou=rows["iou"] * 0.2)[CLICK_COLUMNS].to_parquet(rerun / "clicks.parquet")
    (rerun / "summary.csv").unlink()
    (rerun / "compare.csv").unlink(missing_ok=True)
    ((_, record, text),) = verify(rerun, copy)
    assert record is None and text.startswith("not borne out: auc worse")


def test_the_gate_says_what_the_decision_function_says(small_run: Path, repository: Path, tmp_path: Path) -> None:
    """Equal runs: 0. Every sample worse: 1. Nothing in common: 3. No folder: UserError, which is 2."""
    assert command(["gate", f"base={small_run}", f"head={small_run}"]) == 0
    before = Path(shutil.copytree(small_run, tmp_path / "before"))
    rows = pd.read_parquet(before / "clicks.parquet")
    rows.assign(iou=rows["iou"].where(rows["click"] < 2, 0.95)).to_parquet(before / "clicks.parquet")
    (before / "summary.csv").unlink()
    verdict = gate(before, small_run)  # 90 % after two clicks before, never now: six of six, p = 2 / 2^6
    assert verdict.exit_code == 1 and any("NoC@90 2.00" in line for line in verdict.worse)
    assert gate(small_run, before).exit_code == 0
    other = Path(shutil.copytree(small_run, tmp_path / "other"))
    rows.assign(variant="else").to_parquet(other / "clicks.parquet")
    (other / "summary.csv").unlink()
    assert gate(small_run, other).exit_code == 3
    assert command(["gate", f"base={repository}", f"head={repository}"]) == 0
    with pytest.raises(UserError, match="two runs or two repositories"):
        gate(repository, small_run)
    with pytest.raises(UserError, match="no such folder"):
        gate(small_run, tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "a/b", "a\\b", "CON\0", "\u202egpj.exe", "x" * 500, "ä ö", "-rf", "<script>"]
)
def test_a_name_of_a_folder_is_one_part_of_a_path(text: str) -> None:
    name = naming.segment(text)
    assert re.fullmatch(r"[A-Za-z0-9_+=][A-Za-z0-9._+=-]*", name) and len(name) <= 80
    assert naming.segment(name) == name


def test_equal_settings_have_one_name() -> None:
    """Names of sweeps/variant: the packaged variant, and what differs from it."""
    lite = {"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "preset": "lite"}
    assert naming.system({**lite, "dha": "on", "weights": "default", "seed": 3}, "hybrid") == "inter2former_lite"
    assert naming.system({**lite, "hmoe": "dense"}, "x") == "inter2former_lite+hmoe=dense"
    assert naming.system({"_target_": "mine.Model", "depth": 3}, "My Model") == "my-model"


def test_metrics_are_those_of_the_harness(repository: Path) -> None:
    """NoC@90 counted by hand from the stored rows: first click at 0.9 or more, 6 where there is none."""
    (stored,) = store.read(repository).stored
    reached = [
        min([int(c) for c, i in zip(rows["click"], rows["iou"], strict=True) if i >= 0.9] or [6])
        for _, rows in stored.rows.groupby("sample")
    ]
    assert stored.value("noc90") is not None
    assert stored.value("noc90")[0] == pytest.approx(sum(reached) / SAMPLES)  # type: ignore[index]
    assert metrics.per_sample(stored.clicks, stored.entry.protocol_record)["noc90"].tolist() == reached
