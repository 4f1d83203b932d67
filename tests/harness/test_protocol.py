"""Protocols: presets, their machine-readable form, and settings that cannot work."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from omegaconf import OmegaConf

import sweeps
from harness.clicking.annotators import Inter2Former, Jitter, Ritm
from harness.errors import UserError
from harness.planning import plan as plan_room
from harness.planning.config import build
from harness.planning.plan import Cell, DatasetPlan, Variant
from harness.planning.stamps import _content as stamp_of
from harness.planning.stamps import weights_stamp
from harness.protocol import Protocol
from harness.results.measuring import Measure
from harness.results.stages import _stamp
from harness.scoring.metrics import per_sample

PRESETS = sorted(p.stem for p in (Path(sweeps.__file__).parent / "protocol").glob("*.yaml"))


def preset(name: str, **settings) -> Protocol:
    loaded = OmegaConf.load(Path(sweeps.__file__).parent / "protocol" / f"{name}.yaml")
    made = build(OmegaConf.to_container(OmegaConf.merge(loaded, settings)), "protocol")
    assert isinstance(made, Protocol)
    return made


def test_the_presets_that_the_field_knows_are_there():
    assert {"ritm", "segnext", "inter2former", "sam"} <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_run_to_twenty_clicks_for_every_target(name: str):
    made = preset(name)
    assert made.name == name and made.clicks == 20 and made.stop_iou is None
    assert made.targets == (0.8, 0.85, 0.9, 0.95)
    record = json.loads(json.dumps(made.record()))
    assert record["name"] == name and record["annotator"] == made.annotator.record()


def test_click_rules_of_the_presets():
    """protocols.md, section 1."""
    assert preset("ritm").annotator == preset("segnext").annotator == preset("sam").annotator == Ritm("no_click")
    assert preset("inter2former").annotator == Inter2Former(seed=0, form="evaluation")
    assert preset("inter2former").rerun_without_click and not preset("ritm").rerun_without_click
    assert preset("jitter").annotator == Jitter(seed=0, depth=0.5)
    assert preset("ritm", annotator={"perfect_mask": "corner"}).annotator == Ritm("corner")


def test_any_setting_changes_the_record():
    base = preset("ritm").record()
    for change in (
        {"clicks": 10},
        {"threshold": 0.49},
        {"targets": [0.9]},
        {"rerun_without_click": True},
        {"annotator": {"perfect_mask": "corner"}},
        {"feedback": {"multimask": True}},
        {"input": {"target_size": 1024}},
        {"stop_iou": 0.95},
    ):
        assert preset("ritm", **change).record() != base, change


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clicks": 0}, "protocol.clicks=0: a whole number of clicks from 1"),
        ({"clicks": 2.5}, "protocol.clicks=2.5"),
        ({"targets": [90]}, r"protocol.targets: 90 is not an IoU in \(0, 1\]; write 0.9 for 90 %"),
        ({"stop_iou": 90}, r"protocol.stop_iou=90 is not an IoU in \(0, 1\]"),
        ({"stop_iou": 0.9}, "ends episodes before target 0.95. Set stop_iou to at least 0.95, or to null"),
        ({"annotator": {"perfect_mask": "stay"}}, "unknown perfect_mask 'stay'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        preset("ritm", **settings)


def test_ritms_early_stop_with_fitting_targets():
    assert preset("ritm", stop_iou=0.9, targets=[0.8, 0.85, 0.9]).stop_iou == 0.9


def test_packaged_weights_of_the_lite_baselines_are_part_of_a_cell():
    """Their files lie in inter2former/weights: without the stamp, retrained weights would meet the old episodes."""
    baseline = weights_stamp({"_target_": "baselines.sam_lite.SamLite", "weights": "default"})
    own = weights_stamp({"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "weights": "default"})
    assert baseline == own != weights_stamp({"_target_": "baselines.sam_lite.SamLite", "weights": None})


def test_deviations_name_the_switches_that_differ():
    sam = preset("sam")
    assert sam.deviations({"feedback": True, "multimask": "every", "weights": None}) == []
    assert sam.deviations({"feedback": False}) == ["feedback=False, protocol sam asks for True"]
    assert preset("ritm").deviations({"feedback": False}) == []


def test_new_weights_under_the_same_name_are_measured_again(tmp_path):
    """FLOPs and latency replay a model's own episodes: other weights, other work."""
    file = tmp_path / "weights.safetensors"
    variant = SimpleNamespace(name="mine", config={"_target_": "a.B", "weights": str(file)})
    data = (SimpleNamespace(digest="d"),)
    plan = SimpleNamespace(variants=(variant,), base="mine", datasets=data, protocol=preset("ritm"))
    stamps = []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        stamp_of.cache_clear()  # remembered while size and time stay, and here both may
        stamps.append(_stamp("flops", plan, Measure(), []))
    assert stamps[0] == stamps[2] != stamps[1]


def test_a_whole_tree_or_a_device_is_no_weights_and_is_not_read(tmp_path, monkeypatch):
    """`weights=/usr` once hashed the whole tree first."""
    for number in range(1_100):
        (tmp_path / f"{number}.txt").write_text("words")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "ring").symlink_to("ring")
    named = {name: {"_target_": "a.B", "weights": str(tmp_path / name)} for name in ("ring", "none")}
    assert weights_stamp(named["ring"]) == weights_stamp(named["none"])  # there is nothing under either name
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("a file was read"))
    for weights, cause in {
        str(tmp_path): "more than 1,000 files",
        "/usr": "more than 1,000 files",
        str(tmp_path / "fifo"): "a FIFO, socket or device",
        "/dev/zero": "a FIFO, socket or device",
        "x" * 300: "File name too long",
        "~nobody-of-this-name/x": "~nobody-of-this-name",
    }.items():
        with pytest.raises(UserError, match=cause) as caught:
            weights_stamp({"_target_": "baselines.sam.Sam", "weights": weights})
        assert "give the weight file" in str(caught.value) and "\n" not in str(caught.value)


def test_the_metric_that_counts_is_read_and_never_clicked():
    """It may be changed when the clicks are done: no record and no key knows it."""
    plain, other = preset("ritm"), preset("ritm", primary="miou5")
    assert (plain.primary, other.primary) == ("noc90", "miou5")
    assert plain.record() == other.record() and "primary" not in plain.record()
    variant, data = Variant("a", {"_target_": "x"}), DatasetPlan("d", {}, None, "digest")
    assert Cell(variant, data, plain).key == Cell(variant, data, other).key


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_names_it(name: str):
    loaded = OmegaConf.load(Path(sweeps.__file__).parent / "protocol" / f"{name}.yaml")
    assert loaded.primary == "noc90"


def test_a_metric_that_the_protocol_does_not_give_is_refused():
    with pytest.raises(UserError, match=r"protocol.primary='noc99'.*Did you mean 'noc9.'.*protocols.md"):
        preset("ritm", primary="noc99")
    with pytest.raises(UserError, match="miou20"):
        preset("ritm", clicks=10, primary="miou20")


def test_where_90_is_no_target_the_largest_one_counts():
    assert preset("ritm", targets=[0.8, 0.85]).primary == "noc85"
    assert preset("ritm", targets=[0.8, 0.925]).primary == "noc92_5"


def test_the_metrics_of_a_protocol_are_those_of_its_rows():
    protocol = preset("ritm", targets=[0.9, 0.925], clicks=5)
    rows = pd.DataFrame({"sample": "s", "click": range(1, 6), "iou": 0.5, "biou": 0.5})
    assert sorted(protocol.metrics()) == sorted(per_sample(rows, protocol.record()).columns)


def test_a_cells_key_holds_the_versions_but_for_the_first(monkeypatch: pytest.MonkeyPatch):
    """Keys from before there were versions stay; another version of clicking or scoring is another cell."""
    cell = Cell(Variant("a", {"_target_": "x"}), DatasetPlan("d", {}, None, "digest"), preset("ritm"))
    monkeypatch.setattr(plan_room, "PROTOCOL", 1)
    monkeypatch.setattr(plan_room, "METRICS", 1)
    first = cell.key
    record = {"schema": 1, "variant": ["a", {"_target_": "x"}, ""], "dataset": ["d", "digest"]}
    text = json.dumps({**record, "protocol": cell.protocol.record()}, sort_keys=True, default=str)
    assert first == hashlib.sha256(text.encode()).hexdigest()[:16]  # as it was computed before
    keys = {first}
    for name in ("PROTOCOL", "METRICS"):
        with monkeypatch.context() as patched:
            patched.setattr(plan_room, name, 2)
            keys.add(cell.key)
    assert len(keys) == 3
