"""The table of systems side by side: each number is computed anew from the files, published ratios from issue texts."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from reports.literature import published, systems
from reports.read import frames
from reports.read.runs import Run
from reports.tables import baselines, quality, table
from reports.tables import published as tables_published
from reports.tables.table import Value

BASE = "sam_hq_vit_b"
VARIANTS: dict[str, dict[str, Any]] = {
    "inter2former_vit_b": {"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "preset": "vit_b", "dpe": "on"},
    "interformer_light": {"_target_": "baselines.interformer.InterFormer", "variant": "light"},
    "segnext_sax1": {"_target_": "baselines.segnext.SegNext", "variant": "sax1", "size": 1024},
    "segnext_sax2": {"_target_": "baselines.segnext.SegNext", "variant": "sax2", "size": 1024},
    "hrsam_plusplus": {"_target_": "baselines.hrsam.HRSAM", "variant": "hrsam_plusplus", "size": 1024},
    BASE: {"_target_": "baselines.sam.SamHQ", "model": "vit_b", "size": 1024},
    "sam_hq_vit_l": {"_target_": "baselines.sam.SamHQ", "model": "vit_l", "size": 1024},
    "ritm_hrnet18s": {"_target_": "baselines.ritm.Ritm", "weights": None, "target_size": 400},
    "inter2former_lite": {"_target_": "inter2former.segmenter.Inter2FormerSegmenter", "preset": "lite"},
    "opencv_grabcut": {"_target_": "baselines.grabcut.OpenCVGrabCut"},
}
# ms as 20-SPC / Online: Inter2Former's main table, as issue 5 quotes it.
PAPER = {
    "interformer_light": (1020, 188),
    "segnext_sax2": (1519, 1400),
    "hrsam_plusplus": (273, 105),
    BASE: (167, 54),
    "inter2former_vit_b": (300, 131),
}


def latency_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Two sizes, two thread counts, every kind, by size bin too; sam_hq_vit_l failed."""
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        for threads in (1, 2):
            for resolution in (512, 1024):
                row = {"variant": variant, "threads": threads, "resolution": resolution, "error": "", "contended": ""}
                row |= {"repeats": 6, "p90_ms": 1.0, "base": BASE, "weights_status": "untrained"}
                if variant == "sam_hq_vit_l":
                    rows.append({**row, "kind": "", "size_bin": "all", "error": "out of memory", "base": BASE})
                    continue
                peak = rng.uniform(300, 4000)
                for kind in ("encode", "first", "later", "online_spc", "spc20"):
                    for size in ("all", "1-5%"):
                        ms, ratio = rng.uniform(5, 9000, 2)
                        made = {"kind": kind, "size_bin": size, "peak_rss_mb": peak}
                        times = {"median_ms": ms, "low_ms": ms * 0.9, "high_ms": ms * 1.2}
                        ratios = {"ratio": ratio, "ratio_low": ratio * 0.9, "ratio_high": ratio * 1.2}
                        rows.append({**row, **made, **times, **ratios})
    return rows


def flops_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Parts and their total at two sizes; GrabCut has no FLOPs."""
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        parameters = int(rng.integers(1_000_000, 300_000_000))
        for resolution in (512, 1024):
            row = {"variant": variant, "resolution": resolution, "size_bin": "all", "weights_status": "untrained"}
            if variant == "opencv_grabcut":
                error = "not a torch model: FLOPs do not apply"
                rows.append({**row, "part": "total", "kind": "", "error": error, "weights_status": "no weights"})
                continue
            for kind in ("encode", "first", "later"):
                for part in ("encoder", "total"):
                    gmacs = rng.uniform(1, 700)
                    counts = {"gmacs": gmacs, "gflops": 2 * gmacs, "parameters": parameters, "error": ""}
                    rows.append({**row, "part": part, "kind": kind, **counts})
    return rows


def systems_run(tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda x: x, **sizes: int) -> Run:
    rng = np.random.default_rng(3)
    change(pd.DataFrame(latency_rows(rng))).to_csv(tmp_path / "latency.csv", index=False)
    pd.DataFrame(flops_rows(rng)).to_csv(tmp_path / "flops.csv", index=False)
    configured = {
        name: {**config, **({"size": sizes[name]} if name in sizes else {})} for name, config in VARIANTS.items()
    }
    config = {"ablation": {"name": "baselines", "base": BASE}, "variants": configured}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return frames.read(tmp_path)


def cells(run: Run) -> dict[str, dict[str, Any]]:
    made = baselines.table(run)
    keys = [c.key for c in made.columns]
    return {str(r.cells[0]).split()[0]: dict(zip(keys, r.cells, strict=True)) for r in made.rows}


def lines(path: Path, **wanted: object) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[k] == str(v) for k, v in wanted.items())]


class Files:
    """Numbers straight from the files, by plain Python."""

    def __init__(self, folder: Path):
        self.folder = folder

    def latency(self, variant: str, kind: str, threads: int, column: str) -> float:
        wanted = {"variant": variant, "kind": kind, "threads": threads, "resolution": 1024, "size_bin": "all"}
        (line,) = lines(self.folder / "latency.csv", **wanted)
        return float(line[column])

    def flops(self, variant: str, kind: str, column: str = "gmacs") -> float:
        wanted = {"variant": variant, "kind": kind, "resolution": 1024, "part": "total"}
        (line,) = lines(self.folder / "flops.csv", **wanted)
        return float(line[column])

    def gmacs_of_20(self, variant: str) -> float:
        """One encode and twenty clicks, shared out."""
        clicks = [self.flops(variant, "first")] + [self.flops(variant, "later")] * 19
        return self.flops(variant, "encode") / 20 + fmean(clicks)


def test_every_number_is_computed_anew_from_the_files(tmp_path: Path) -> None:
    made = cells(systems_run(tmp_path))
    files = Files(tmp_path)
    assert list(made) == list(VARIANTS)
    for variant in [v for v in VARIANTS if v not in ("sam_hq_vit_l", "opencv_grabcut")]:
        row = made[variant]
        parameters, peak = (
            [read(name) for name in (variant, BASE)]
            for read in (
                lambda name: files.flops(name, "encode", "parameters"),
                lambda name: files.latency(name, "encode", 1, "peak_rss_mb"),
            )
        )
        expected = {
            "parameters": parameters[0] / 1e6,
            "encode gmacs": files.flops(variant, "encode"),
            "later gmacs": files.flops(variant, "later"),
            "peak_mb": peak[0],
            "gmacs ratio": files.gmacs_of_20(variant) / files.gmacs_of_20(BASE),
            "parameters ratio": parameters[0] / parameters[1],
            "peak ratio": peak[0] / peak[1],
        }
        for kind in ("encode", "online_spc", "spc20"):
            for threads in (1, 2):
                expected[f"{kind} {threads}"] = files.latency(variant, kind, threads, "median_ms")
                if kind != "encode":
                    expected[f"{kind} ratio {threads}"] = files.latency(variant, kind, threads, "ratio")
                    cell = row[f"{kind} ratio {threads}"]
                    assert cell.low == pytest.approx(files.latency(variant, kind, threads, "ratio_low"))
                    assert cell.high == pytest.approx(files.latency(variant, kind, threads, "ratio_high"))
        for key, number in expected.items():
            assert row[key].measured == pytest.approx(number, rel=1e-9), (variant, key)
        numbers = {k for k, v in row.items() if isinstance(v, Value) and v.measured is not None}
        assert numbers - expected.keys() <= {"spc20 ratio published", "online_spc ratio published"}


def test_published_ratios_are_those_of_the_papers_times(tmp_path: Path) -> None:
    made = cells(systems_run(tmp_path))
    for variant, row in made.items():
        shown = [row[f"{kind} ratio published"].measured for kind in ("spc20", "online_spc")]
        if variant not in PAPER:
            assert shown == [None, None] and row["published_as"] == "–", variant
            continue
        for number, mine, base in zip(shown, PAPER[variant], PAPER[BASE], strict=True):
            assert number == pytest.approx(mine / base)
        assert not row["spc20 ratio published"].trusted


def test_a_row_says_where_the_published_size_is_another(tmp_path: Path) -> None:
    made = cells(systems_run(tmp_path))
    assert made["hrsam_plusplus"]["published_as"] == "HRSAM++ 2048: published at 2048, here 1024"
    assert made["inter2former_vit_b"]["published_as"] == "Inter2Former 2048: published at 2048, here 1024"
    assert made["segnext_sax2"]["published_as"] == "SegNext x2: size not stated, here 1024"
    same = cells(systems_run(tmp_path, hrsam_plusplus=2048))
    assert same["hrsam_plusplus"]["published_as"] == "HRSAM++ 2048"


def test_without_paired_ratios_they_are_those_of_the_medians(tmp_path: Path) -> None:
    run = systems_run(tmp_path, lambda frame: frame.drop(columns=["ratio", "ratio_low", "ratio_high", "base"]))
    files = Files(tmp_path)
    cell = cells(run)["segnext_sax2"]["spc20 ratio 2"]
    medians = [files.latency(v, "spc20", 2, "median_ms") for v in ("segnext_sax2", BASE)]
    assert cell.measured == pytest.approx(medians[0] / medians[1]) and cell.low is None


def test_what_was_not_measured_says_so(tmp_path: Path) -> None:
    made = cells(systems_run(tmp_path))
    assert made["sam_hq_vit_l"]["spc20 1"].missing == "failed" == made["sam_hq_vit_l"]["online_spc ratio 2"].missing
    assert made["sam_hq_vit_l"]["encode gmacs"].measured is not None
    assert made["opencv_grabcut"]["encode gmacs"].missing == "not counted"
    assert made["opencv_grabcut"]["parameters"].missing == "not recorded"
    (tmp_path / "latency.csv").unlink()
    row = cells(frames.read(tmp_path))["segnext_sax2"]
    assert row["later gmacs"].measured == pytest.approx(Files(tmp_path).flops("segnext_sax2", "later"))
    assert not [key for key in row if key.startswith("spc20 1")]


def test_a_changed_order_is_named_with_its_arithmetic(tmp_path: Path) -> None:
    """Times in the published order give no note; SegNext made the fastest changes places with all the others."""

    def ordered(frame: pd.DataFrame, **more: float) -> pd.DataFrame:
        spc = dict(zip(PAPER, (x for x, _ in PAPER.values()), strict=True)) | more
        return frame.assign(median_ms=[spc.get(v, m) for v, m in zip(frame.variant, frame.median_ms, strict=True)])

    def notes(change: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
        made = baselines.table(systems_run(tmp_path, change))
        return [n for n in made.notes if n.startswith("Other order than published (20-SPC, 2 threads)")]

    assert notes(ordered) == []
    found = notes(lambda frame: ordered(frame, segnext_sax2=10.0))
    assert len(found) == len(PAPER) - 1
    files = Files(tmp_path)
    (one,) = [n for n in found if "hrsam_plusplus" in n]
    assert "hrsam_plusplus 273 ms, segnext_sax2 10 ms here; 273 and 1519 ms published" in one
    assert f"hrsam_plusplus: {files.gmacs_of_20('hrsam_plusplus'):.2f} GMACs a click (published at 2048, here" in one
    assert f"segnext_sax2: {files.gmacs_of_20('segnext_sax2'):.2f} GMACs" in one


def test_switches_of_one_system_are_no_table_of_systems(folder: Path) -> None:
    made = quality.ALL["baselines"](frames.read(folder))
    assert made.rows == () and made.notes == (baselines.ALIKE,)


def test_markdown_and_csv_hold_every_system(tmp_path: Path) -> None:
    made = baselines.table(systems_run(tmp_path))
    text = table.to_markdown(made)
    assert all(f"| {name}" in text for name in VARIANTS) and "20-SPC, × sam_hq_vit_b 1 thread" in text
    header, *rows = csv.reader(table.to_csv(made).splitlines())
    assert len(rows) == len(VARIANTS) and {len(row) for row in rows} == {len(header)}


def test_published_rows_go_to_their_own_system_only() -> None:
    """Which of our systems each kind of published row may stand beside, written down from the collection."""
    mine = {name: systems.identify(config) for name, config in VARIANTS.items()}
    mine["sam_vit_b"] = systems.identify({"_target_": "baselines.sam.Sam", "model": "vit_b"})
    mine["sam_single"] = systems.identify({"_target_": "baselines.sam.Sam", "model": "vit_b", "multimask": "never"})
    mine["hrsam"] = systems.identify({"_target_": "baselines.hrsam.HRSAM", "variant": "hrsam"})
    for backbone in ("hrnet18", "hrnet32"):
        mine[f"ritm_{backbone}"] = systems.identify({**VARIANTS["ritm_hrnet18s"], "backbone": backbone})
    found: dict[tuple[str, str, str], set[str]] = {}
    for row in published.load():
        if row.metric in tables_published.PUBLISHED and not row.variant.startswith("ablation"):
            key = (row.method, row.backbone, row.variant)
            found.setdefault(key, set()).update(v for v, s in mine.items() if s.published_as(row))
    assert found.pop(("SegNext", "ViT-B", "sax1")) == {"segnext_sax1"}
    for form in ("sax2", "sax2 finetuned", "x2"):
        assert found.pop(("SegNext", "ViT-B", form)) == {"segnext_sax2"}
    assert found.pop(("SegNext", "ViT-B", "")) == set()  # does not say which
    assert found.pop(("HRSAM++", "ViT-B", "2048")) == {"hrsam_plusplus"}
    assert found.pop(("HQ-SAM", "ViT-B", "")) == {BASE}
    assert found.pop(("Inter2Former", "ViT-B (HRSAM Flash Swin encoder)", "2048")) == {"inter2former_vit_b"}
    for key, names in found.items():
        method, backbone, variant = key
        if method == "InterFormer" and "ViT-B" in backbone:
            assert names == {"interformer_light"}, key
        elif method == "RITM" and variant == "non-iterative baseline":
            assert names == set(), key
        elif method == "RITM":
            assert names == {f"ritm_{backbone.lower()}"}, key
        elif method == "SAM" and backbone == "ViT-B" and variant.startswith("multimask"):
            assert names == {"sam_vit_b"}, key
        else:
            assert names == set(), key


@pytest.mark.parametrize("change", [{"flip": False}, {"zoom_in": False}, {"empty_zoom": "reset"}])
def test_ritm_with_another_evaluation_is_not_the_published_one(change: dict[str, object]) -> None:
    config = {**VARIANTS["ritm_hrnet18s"], "empty_zoom": "keep", "flip": True, "zoom_in": True}
    rows = [row for row in published.load() if row.method == "RITM" and row.backbone == "HRNet18s"]
    assert rows and all(systems.identify(config).published_as(row) for row in rows)
    assert not any(systems.identify({**config, **change}).published_as(row) for row in rows)


def test_the_main_table_takes_sax2_and_names_sizes(tmp_path: Path) -> None:
    run = systems_run(tmp_path)
    made = {row.cells[0]: row.cells for row in tables_published.main(run).rows}
    assert made["SegNext"][1] == "segnext_sax2"
    assert made["HRSAM++ 2048"][1] == "hrsam_plusplus, published at 2048, here 1024"
    assert made["HQ-SAM"][1] == BASE  # not ViT-L
    assert len(tables_published.main(run).rows) == len(tables_published.MAIN) + 1  # Inter2Former's lite form


def test_parameters_come_from_the_clicks_where_there_are_any(tmp_path: Path) -> None:
    run = systems_run(tmp_path)
    clicks = pd.DataFrame([{"variant": BASE, "parameters": 94_000_000, "dataset": "x", "protocol": "ritm"}])
    clicks["weights_status"] = "released"
    found = baselines.Costs.of(replace(run, clicks=clicks)).parameters(BASE)
    assert found.measured == 94_000_000


def test_what_was_timed_in_too_few_rounds_is_named(tmp_path: Path) -> None:
    def few(rows: pd.DataFrame) -> pd.DataFrame:
        late = rows["variant"].isin(["segnext_sax1", "ritm_hrnet18s"])
        return rows.assign(high_ms=rows["high_ms"].mask(late, np.inf), repeats=rows["repeats"].mask(late, 1))

    (note,) = [n for n in baselines.table(systems_run(tmp_path, few)).notes if n.startswith("Timed in")]
    assert note.startswith("Timed in 1 round, too few for an interval")
    assert note.endswith(": segnext_sax1, ritm_hrnet18s.")
    assert not [n for n in baselines.table(systems_run(tmp_path)).notes if n.startswith("Timed in")]
