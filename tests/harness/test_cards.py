"""The cards of the packaged systems: complete, true to what we hold, and read strictly."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from harness import cards, sweep
from harness.errors import UserError
from harness.planning.config import Config, plain
from harness.planning.plan import make_plan
from reports.literature import published, systems

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = sorted(path.stem for path in (ROOT / "sweeps" / "variant").glob("*.yaml"))
SHARED = Path(os.environ.get("IS_BENCH_SHARED", ROOT.parent / "shared"))
DOWNLOADS = SHARED / "spec" / "downloads.json"


def test_every_variant_has_a_card_and_every_card_a_variant() -> None:
    assert sorted(cards.load()) == VARIANTS
    for name in VARIANTS:
        card = cards.of(plain(Config().load("variant", name)))
        assert card is not None and card.variant == name


@pytest.mark.parametrize("name", VARIANTS)
def test_a_card_is_whole(name: str) -> None:
    """Names that a card takes from elsewhere exist there; a published system has a paper and its checkpoint's name."""
    card = cards.load()[name]
    known = cards.training_sets()
    for sets in (card.training, *(c.training for c in card.checkpoints)):
        assert set(sets or ()) <= set(known)
    assert card.superseded_by is None or card.superseded_by in VARIANTS
    rows = {(r.method, r.backbone, r.variant) for r in published.load()}
    for claim in card.published_as:
        assert {(card.method, b, c) for b in claim.backbone for c in claim.configuration} & rows
        for configuration in claim.configuration:  # each is a row of one of the backbones, word for word
            assert any((card.method, b, configuration) in rows for b in claim.backbone), configuration
        for backbone in claim.backbone:
            assert any((card.method, backbone, c) in rows for c in claim.configuration), backbone
        assert set(claim.when) <= set(card.settings)
        assert card.matches(claim, card.settings) or claim.form == "single mask"
    assert card.paper is not None or card.method is None
    if card.paper is not None:
        assert 2000 < card.paper.year < 2030 and (card.paper.arxiv or card.paper.doi)
        assert card.paper.arxiv is None or re.fullmatch(r"\d{4}\.\d{5}", card.paper.arxiv)
    if card.method is not None and card.parameters is not None and not card.reduced:
        assert card.checkpoints
    names = [c.name for other in cards.load().values() for c in other.checkpoints]
    assert len(names) == len(set(names))


def test_what_others_published_of_the_files_is_repeated_word_for_word() -> None:
    """downloads.json: URL, digest and size as read in public repositories; what it lacks, no card has."""
    if not DOWNLOADS.exists():
        pytest.skip("the list of downloads is not here (IS_BENCH_SHARED)")
    theirs: dict[str, dict[str, Any]] = {w["name"]: w for w in json.loads(DOWNLOADS.read_text())["weights"]}
    ours = {c.name: c for card in cards.load().values() for c in card.checkpoints}
    for name, entry in theirs.items():
        if name in ("simpleclick", "hrsam, inter2former"):
            continue
        mine = ours[name]
        for key in ("md5", "size_mb", "drive", "drive_folder"):
            assert getattr(mine, key) == entry.get(key), (name, key)
        assert mine.hf in (entry.get("hf"), entry.get("hf_file"), None)
        if mine.url is not None:
            assert entry["url"].startswith(mine.url) or mine.url.endswith(entry["url"].rsplit(" ", 1)[-1])
        assert mine.licence == (entry.get("licence") if entry.get("licence") != "MIT (code)" else None)
    digests = {entry.get("md5") for entry in theirs.values()}
    assert {c.md5 for c in ours.values()} <= digests


def test_a_card_reaches_no_constructor_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Config()

    def key() -> str:
        config = root.compose(["variant=opencv_grabcut", "dataset.limit=2"])
        plan = make_plan(root, config, "opencv_grabcut")
        assert "card" not in plan.cells[0].variant.config
        return plan.cells[0].key

    before = key()
    monkeypatch.setattr(cards, "load", lambda: {})
    assert key() == before


GOOD = {
    "method": "M",
    "paper": None,
    "code": None,
    "licence": {"code": "MIT", "weights": None},
    "training": ["COCO"],
    "protocols": [],
    "input_size": 3,
    "cards": {"geodesic": {"backbone": None, "parameters": None, "checkpoints": [], "published_as": []}},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"paper": {"title": "T"}}, "card/x.yaml: cards.geodesic.paper.authors: missing"),
        ({"paper": {"title": 3}}, "paper.authors: missing"),
        ({"licence": {"code": 3, "weights": None}}, "licence.code: must be a text, not 3"),
        ({"training": "COCO"}, "training: must be a list, not 'COCO'"),
        ({"training": [1]}, r"training\[0\]: must be a text"),
        ({"trainning": []}, "trainning: unknown. Did you mean 'training'"),
        ({"input_size": 1.5}, "input_size: must be a whole number, not 1.5"),
        ({"input_size": True}, "input_size: must be a whole number, not True"),
        ({"reduced": "yes"}, "reduced: must be true or false, not 'yes'"),
        ({"sizes": []}, r"sizes: must be a mapping, not \[\]"),
        ({"cards": {"geodesik": {}}}, "cards.geodesik: no such variant. Did you mean 'geodesic'"),
        ({"cards": {"geodesic": {"backbone": None}}}, "cards.geodesic.parameters: missing"),
        ({"cards": None}, "needs `cards`"),
        ({"cards": {"geodesic": None}}, "cards.geodesic: must be a mapping"),
    ],
)
def test_a_wrong_card_names_file_and_key(change: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = cards._yaml
    monkeypatch.setattr(cards, "_yaml", lambda file: {**GOOD, **change} if file == "card/x.yaml" else whole(file))
    with pytest.raises(UserError, match=words):
        cards._family("x")
    monkeypatch.setattr(cards, "_yaml", lambda file: GOOD if file == "card/x.yaml" else whole(file))
    assert cards._family("x")["geodesic"].training == ("COCO",)


def test_help_and_show_read_the_cards(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep.run(["--help"])
    text = capsys.readouterr().out
    assert "SimpleClick (Liu et al., ICCV 2023; weights: not stated): simpleclick_vit_xtiny" in text
    assert sweep.run(["variant=ritm_hrnet32", "--show"]) == 0
    text = capsys.readouterr().out
    assert "# system: RITM, HRNet32" in text and "# parameters: 30,951,363" in text
    assert yaml.safe_load(text)["variant"]["backbone"] == "hrnet32"  # the facts are comments


@pytest.mark.parametrize(
    ("training", "dataset", "expected"),
    [
        (("SBD",), "SBD", "part"),
        (("SBD",), "PascalVOC", "images"),
        (("COCO", "SBD"), "pascal_voc", "images"),
        (("SA-1B", "HQSeg-44K"), "ecssd200", "images"),
        (("SA-1B", "HQSeg-44K"), "duts_val250", "images"),
        (("SA-1B", "HQSeg-44K"), "hqseg44k", "part"),
        (("ImageNet", "DUTS"), "duts_val250", "part"),
        (("ImageNet", "DUTS"), "ecssd200", ""),
        (("COCO", "LVIS"), "grabcut", ""),
        (None, "SBD", ""),
        ((), "SBD", ""),
    ],
)
def test_what_weights_saw_of_a_data_set(training: tuple[str, ...] | None, dataset: str, expected: str) -> None:
    assert cards.seen(training, dataset) == expected


def test_a_system_is_known_by_its_settings_not_by_its_name() -> None:
    sam = {"_target_": "baselines.sam.Sam", "model": "slimsam_50"}
    assert systems.identify(sam).method == "SlimSAM" and systems.identify(sam).side == 1024
    assert systems.identify({**sam, "size": 512}).side == 512
    own = systems.identify({"_target_": "mine.Sam", "model": "vit_b"})
    assert own.method == "" and own.card is None and not own.small
    toy = systems.identify({"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "preset": "tiny_test"})
    assert toy.small and toy.label == "Inter2Former (lite)"


def test_sizes_of_the_published_evaluation() -> None:
    """SimpleClick and RITM take another size on DAVIS (simpleclick.md 6, ritm_pipeline.md); FocalClick S1 says 128."""
    click = systems.identify({"_target_": "baselines.simpleclick.SimpleClick", "variant": "vit_b"})
    rows = [r for r in published.load() if r.method == "SimpleClick" and click.published_as(r)]
    davis, other = next(r for r in rows if r.dataset == "DAVIS"), next(r for r in rows if r.dataset == "SBD")
    assert click.other_size(davis) == "published at 672, here 448" and click.other_size(other) == ""
    focal = systems.identify({"_target_": "baselines.focalclick.FocalClick", "model": "hrnet18s_s1"})
    rows = [r for r in published.load() if r.method == "FocalClick" and focal.published_as(r)]
    assert {r.variant for r in rows} == {"S1"} and {r.backbone for r in rows} == {"HRNet18s"}
    assert {focal.other_size(r) for r in rows} == {""}


def test_a_table_marks_weights_that_saw_the_images() -> None:
    """SAM-HQ's official weights saw ECSSD and DUTS (parts of HQSeg-44K); SAM's did not; untrained ones saw nothing."""
    variants = {
        "hq": {"_target_": "baselines.sam.SamHQ", "model": "vit_b"},
        "sam": {"_target_": "baselines.sam.Sam", "model": "vit_b"},
        "lite": {"_target_": "baselines.sam_lite.SamLite", "weights": "default"},
        "mine": {"_target_": "baselines.sam_lite.SamLite", "weights": "my.safetensors"},
    }
    states = {"hq": "released", "sam": "released", "lite": "trained here", "mine": "trained here"}
    run = SimpleNamespace(variant_configs=variants, status=states.get)
    found = {(v, d): systems.seen_in_training(run, v, d) for v in variants for d in ("ecssd200", "duts_val250")}  # type: ignore[arg-type]
    assert {key: kind for key, kind in found.items() if kind} == {
        ("hq", "ecssd200"): "images",
        ("hq", "duts_val250"): "images",
        ("lite", "duts_val250"): "part",
    }
    run.status = lambda _: "untrained"
    assert systems.seen_in_training(run, "hq", "ecssd200") == ""  # type: ignore[arg-type]


def test_the_ablation_of_baselines_names_every_system() -> None:
    offered = Config().compose(["+ablation=baselines"]).ablation.variants
    assert {settings["variant"] for settings in offered.values()} == set(VARIANTS)
