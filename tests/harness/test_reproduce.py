"""From an empty home directory to a verdict: fetch stand-ins from loopback, examine them, run published rows.

The "published" numbers of the end-to-end test are those of a sweep of the same files by their paths, printed with two
decimals: what a fetch, and everything that finds its way by name, must not change.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fault_server import File, Site, serve
from PIL import Image
from safetensors.numpy import load_file, save_file

from harness import doctor, fetch, reproduce, sweep
from harness.errors import UserError
from harness.fetching import places
from harness.fetching.manifests import Catalogue
from harness.planning.config import Config, build, plain
from harness.reproducing import causes, rows, tolerance, verdicts
from harness.reproducing.causes import Evidence
from harness.reproducing.running import Outcome

QUIET = ("measure=none", "report=false", "tracking.enabled=false", "protocol.clicks=6", "threads=1")
VARIANTS = ("inter2former_lite", "sam_lite")


def zipped(folder: Path) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(path, f"package/{path.relative_to(folder).as_posix()}")
    return data.getvalue()


def stand_ins(folder: Path) -> dict[str, Path]:
    """Three data sets of composed scenes, in the layouts of GrabCut, Berkeley and DAVIS."""
    scenes = build(plain(Config().load("dataset", "scenes", {"count": 6, "longest": 128})), "scenes")
    samples = [scenes.load(name) for name in scenes.names]
    layouts = {"grabcut": ("data_GT", "boundary_GT"), "berkeley": ("images", "masks"), "davis": ("img", "gt")}
    for number, (name, (images, masks)) in enumerate(layouts.items()):
        for i, sample in enumerate(samples[2 * number : 2 * number + 2]):
            for part, values in ((images, sample.image), (masks, np.where(sample.mask == 1, 255, 0).astype(np.uint8))):
                path = folder / name / part / f"s{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(path)
    return {name: folder / name for name in layouts}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[tuple[Site, Path, dict[str, Path]]]:
    """The server with three data sets and two checkpoints; the user's folder with manifests; the data by path."""
    folder = tmp_path_factory.mktemp("world")
    site, running = serve()
    data, mine = stand_ins(folder / "data"), folder / "mine"
    (mine / "fetch").mkdir(parents=True)
    for name, root in data.items():
        site.pages[f"/{name}.zip"] = File(zipped(root))
        entry = Catalogue().get("data", name)
        urls = [site.url(f"/gone/{name}.zip"), site.url(f"/{name}.zip")]
        manifest = {
            "kind": "data", "name": name, "licence": "a stand-in", "layout": list(entry.layout),
            "files": [{"name": f"{name}.zip", "urls": urls, "unpack": "auto"}],
        }  # fmt: skip
        (mine / "fetch" / f"{name}.yaml").write_text(yaml.safe_dump(manifest))
    for variant in VARIANTS:
        file = folder / f"{variant}.safetensors"
        loaded = build(plain(Config().load("variant", variant, {"weights": "default"})), variant)
        state = loaded.module.state_dict()
        save_file({name: tensor.contiguous().numpy() for name, tensor in state.items()}, file)
        site.pages[f"/{file.name}"] = File(file.read_bytes())
        manifest = {
            "kind": "weights", "name": f"{variant}_standin", "variants": [variant], "use": "*.safetensors",
            "files": [{"name": file.name, "urls": [site.url(f"/{file.name}")]}],
        }  # fmt: skip
        (mine / "fetch" / f"{variant}.yaml").write_text(yaml.safe_dump(manifest))
    yield site, mine, data
    running.shutdown()


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """An empty home directory."""
    for name in (
        "IS_BENCH_DATA",
        "XDG_DATA_HOME",
        "IS_BENCH_CACHE",
        "XDG_CACHE_HOME",
        "HF_HUB_OFFLINE",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def published(folder: Path, data: dict[str, Path], mine: Path) -> Path:
    """Rows with what a sweep by paths measures, two decimals."""
    listed = []
    for variant in VARIANTS:
        for name, root in data.items():
            out = folder / "truth" / f"{variant}-{name}"
            weights = mine.parent / f"{variant}.safetensors"
            arguments = [f"variant={variant}", f"variant.weights={weights}", f"dataset={name}", f"dataset.root={root}"]
            assert sweep.run([*arguments, f"out={out}", *QUIET]) == 0
            summary = pd.read_csv(out / "summary.csv")
            summary = summary[summary["size_bin"] == "all"].set_index("metric")["value"]
            one = {"variant": variant, "dataset": name, "samples": 2}
            listed += [
                {**one, "expected": {"noc90": round(float(summary["noc90"]), 2)}},
                {**one, "unit": "%", "expected": {"miou5": round(100 * float(summary["miou5"]), 2)}},
            ]
    path = folder / "rows.yaml"
    path.write_text(yaml.safe_dump({"title": "stand-ins", "defaults": {"protocol": "ritm"}, "rows": listed}))
    return path


def verdict_words(out: Path) -> list[str]:
    return pd.read_csv(out / "reproduction.csv")["verdict"].tolist()


@pytest.mark.slow
def test_from_an_empty_home_directory_to_a_verdict(world, home: Path, tmp_path: Path, capsys):
    site, mine, data = world
    own = ["--config-dir", str(mine)]
    command = [*own, f"rows={published(tmp_path, data, mine)}", f"out={tmp_path / 'out'}", *QUIET[3:]]
    # Nothing is here: every row says which command gets it, and nobody was asked.
    site.requests.clear()
    assert reproduce.run(command) == 3
    assert set(verdict_words(tmp_path / "out")) == {"not here"}
    assert "python -m harness.fetch data=grabcut weights=inter2former_lite_standin" in capsys.readouterr().out
    assert not site.requests
    assert reproduce.run([*command, "dry_run=true"]) == 0
    forecast = capsys.readouterr().out
    assert (
        "to fetch" in forecast
        and "weights=inter2former_lite_standin,sam_lite_standin" in forecast
        and not site.requests
    )
    # Fetch, examine.
    names = [f"data={','.join(data)}", f"weights={','.join(f'{v}_standin' for v in VARIANTS)}"]
    assert fetch.run([*own, *names]) == 0
    said = capsys.readouterr().err
    assert "variant=inter2former_lite variant.weights=official" in said and "404" in said and "trying the next" in said
    for name in data:
        assert doctor.run([*own, f"dataset={name}"]) == 0
        assert "2 usable of 2" in capsys.readouterr().out
    # Reproduce; the second time nothing is clicked again.
    assert reproduce.run(command) == 0
    assert set(verdict_words(tmp_path / "out")) == {"reproduced"}
    cells = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("cells/*.jsonl")}
    assert len(cells) == 6
    assert reproduce.run(command) == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("cells/*.jsonl")} == cells
    capsys.readouterr()
    # One weight is changed.
    path = places.installed("weights", "sam_lite_standin").path
    assert path.is_relative_to(home)
    state = load_file(path)
    key = max(state, key=lambda k: state[k].size if "decoder" in k else 0)
    state[key].reshape(-1)[0] += 1e-3
    save_file(state, path)
    assert reproduce.run(command) == 1
    table = pd.read_csv(tmp_path / "out" / "reproduction.csv")
    assert set(table[table["variant"] == "sam_lite"]["verdict"]) == {"off"}
    assert set(table[table["variant"] == "inter2former_lite"]["verdict"]) == {"reproduced"}
    assert all(c.startswith("weights digest: differs") for c in table[table["verdict"] == "off"]["causes"])
    assert "1. weights digest: differs" in capsys.readouterr().out
    # Fetched anew it is right again.
    assert fetch.run([*own, "weights=sam_lite_standin", "again=true"]) == 0
    assert reproduce.run(command) == 0


def row(**values) -> rows.Row:
    return rows.Row(**{"variant": "ritm_hrnet32", "dataset": "grabcut", "metric": "noc90", "value": 1.56, **values})


def evidence(**values) -> Evidence:
    base = Evidence({"target_size": 400, "flip": True, "zoom_in": True}, "ritm", (), "d", "d", 50, 50, "", True, "fits")
    return replace(base, **values)


@pytest.mark.parametrize(
    "given, samples, value",
    [
        ({}, 50, 0.005 + 1 / 50),  # half a unit of the second decimal, and one click on one of fifty samples
        ({}, 345, 0.005 + 7 / 345),  # 2 % of 345 are 6.9
        ({"digits": 1}, 50, 0.05 + 1 / 50),
        ({"protocol": "inter2former"}, 1537, 0.005 + 77 / 1537),  # drawn: 5 % of 1,537 are 76.85
        ({"metric": "nof95", "digits": 0}, 345, 0.5 + 7),
        ({"metric": "miou5", "unit": "%"}, 100, 0.005 + 100 * 0.05 * 2 / 100),
        ({"metric": "miou5"}, 100, 0.005 + 0.05 * 2 / 100),
        ({"tolerance": 0.3, "tolerance_reason": "three seeds"}, 50, 0.3),
    ],
)
def test_tolerance_is_the_print_and_the_samples(given: dict, samples: int, value: float):
    """By hand, from the rule in its docstring."""
    found = tolerance.of(row(**given), samples)
    assert found.value == pytest.approx(value) and found.reason


@pytest.mark.parametrize(
    "value, word",
    [(1.56, "reproduced"), (1.585, "reproduced"), (1.535, "reproduced"), (1.5851, "off"), (1.5349, "off")],
)
def test_the_verdict_at_the_edges_of_the_tolerance(value: float, word: str):
    assert verdicts.judge(Outcome(row(), value, 50, True, evidence=evidence())).word == word


def test_other_words_and_the_exit_code():
    good = verdicts.judge(Outcome(row(), 1.56, 50, True, evidence=evidence()))
    off = verdicts.judge(Outcome(row(), 3.0, 50, True, evidence=evidence()))
    missing = verdicts.judge(Outcome(row(), problem="not here", missing=True))
    part = verdicts.judge(Outcome(row(), 1.56, 5, False, "5 of 50 samples", evidence=evidence()))
    failed = verdicts.judge(Outcome(row(), problem="failed: x", evidence=evidence()))
    changed = verdicts.judge(Outcome(row(), 1.56, 50, True, evidence=evidence(weights_changed="w.pth was changed")))
    assert [v.word for v in (good, off, missing, part, failed, changed)] == [
        "reproduced", "off", "not here", "not judged", "failed", "off",
    ]  # fmt: skip
    for among, code in (([good], 0), ([good, missing], 3), ([good, part], 3), ([missing, off], 1), ([good, failed], 1)):
        assert verdicts.exit_code(among) == code


@pytest.mark.parametrize(
    "change, published, first",
    [
        ({"deviations": ("size is 512, the protocol asks 1024",)}, {}, "protocol"),
        ({"data_digest": "e"}, {}, "data digest"),
        ({"samples": 49}, {}, "data digest"),
        ({"weights_changed": "was changed"}, {}, "weights digest"),
        ({}, {"target_size": 600}, "size"),
        ({}, {"flip": False}, "flip"),
        ({}, {"zoom_in": False}, "zoom-in"),
        ({}, {"threshold": 0.5}, "other settings"),
    ],
)
def test_what_differs_comes_first(change: dict, published: dict, first: str):
    found = causes.ranked(row(published=published), evidence(**change))
    assert (found[0].name, found[0].state) == (first, causes.DIFFERS)
    states = [c.state for c in found]
    assert states == sorted(states, key=[causes.DIFFERS, causes.UNKNOWN, causes.EQUAL].index)


def test_several_differences_keep_their_order():
    versions = {"torch": "0.0"}
    both = evidence(data_digest="e", weights_changed="changed", deviations=("x",))
    found = causes.ranked(row(published={"flip": False, "target_size": 600}, versions=versions), both)
    differing = [c.name for c in found if c.state == causes.DIFFERS]
    assert differing == ["protocol", "data digest", "weights digest", "size", "flip", "library versions"]


@pytest.mark.parametrize("name", Config().options("reproduction"))
def test_shipped_rows_are_published_rows(name: str):
    """Every number stands in reports/literature under the same source, to the printed decimal; every setting exists."""
    from reports.literature import published as literature

    text = (Path(literature.__file__).parent / "published.json").read_text(encoding="utf-8")
    known = {
        (r["source"], r["metric"], f"{r['value']:.6f}", r["dataset"].replace("_", "").lower()) for r in json.loads(text)
    }
    shared = Path(__file__).resolve().parents[2].parent / "shared" / "spec" / "published_results.json"
    if shared.is_file():
        known |= {
            (r["source"], r["metric"], f"{r['value']:.6f}", r["dataset"].replace("_", "").lower())
            for r in json.loads(shared.read_text(encoding="utf-8"))
            if isinstance(r["value"], (int, float))
        }
    named = {"noc85": "NoC85", "noc90": "NoC90", "noc95": "NoC95", "nof95": "NoF95", "miou5": "5-mIoU"}
    datasets = {"hqseg44k": "hqseg-44k", "coco_mval": "cocomval", "davis_focuscut": "davis"}
    loaded = rows.load(Config(), name)
    if not shared.is_file() and not any(r.source in {k[0] for k in known} for r in loaded):
        pytest.skip(
            "these rows are of a system whose published rows are not in reports/literature, and ../shared is absent"
        )
    for one in loaded:
        key = (one.source, named[one.metric], f"{one.value:.6f}", datasets.get(one.dataset, one.dataset))
        assert key in known, key
    for variant in {one.variant for one in loaded}:
        settings = set(Config().load("variant", variant))
        mine = [one for one in loaded if one.variant == variant]
        assert all({*one.settings, *one.published} <= settings for one in mine)
    assert all(e.layout or e.kind == "weights" for e in rows.entries(loaded, Catalogue()))


@pytest.mark.parametrize(
    "text, says",
    [
        ("rows: []", "rows: a list of"),
        ("rows: [{variant: nosuch, dataset: grabcut, expected: {noc90: 1}}]", "unknown variant 'nosuch'"),
        ("rows: [{variant: geodesic, dataset: grabcat, expected: {noc90: 1}}]", "Did you mean 'grabcut'"),
        ("rows: [{variant: geodesic, dataset: grabcut, protocol: ritmo, expected: {noc90: 1}}]", "Did you mean 'ritm'"),
        ("rows: [{variant: geodesic, dataset: grabcut}]", "expected: the published numbers"),
        ("rows: [{variant: geodesic, dataset: grabcut, expected: {noc90: x}}]", "expected noc90 'x': a number"),
        ("rows: [{variant: geodesic, dataset: grabcut, expected: {noc90: .nan}}]", "a number"),
        (
            "rows: [{variant: geodesic, dataset: grabcut, expected: {noc90: 1}, tolerance: 1}]",
            "needs its tolerance_reason",
        ),
        ("rows: [{variant: geodesic, datset: grabcut, expected: {noc90: 1}}]", "Did you mean 'dataset'"),
        ("rows: [{variant: geodesic, dataset: grabcut, expected: {noc90: 1}, settings: [1]}]", "names and values"),
        ("row: 1", "Did you mean 'rows'"),
        ("[", "no YAML"),
    ],
)
def test_rows_that_are_none_are_one_line(text: str, says: str):
    with pytest.raises(UserError, match=says) as caught:
        rows.parse(text, "mine.yaml", Config())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given, says",
    [
        ([], "give rows=NAME"),
        (["rows=nosuch"], "no reproduction of that name"),
        (["rows=ritm", "only=nosuch"], "only=nosuch"),
        (["rows=ritm", "dataset=davis"], "the rows say it"),
        (["rows=ritm", "root.davos=x"], "Did you mean 'davis'"),
        (["rows=ritm", "limit=0"], "a number of samples from 1"),
    ],
)
def test_wrong_settings(given: list[str], says: str, home: Path):
    with pytest.raises(UserError, match=says):
        reproduce.run(given)


def test_a_variant_without_weights_and_a_folder_of_ones_own(home: Path, tmp_path: Path):
    """`root.NAME=DIR`; a row that fails; a part of the samples is never a verdict."""
    data = stand_ins(tmp_path / "data")
    listed = [{"variant": "geodesic", "weights": None, "dataset": "grabcut", "expected": {"noc90": 25}, "samples": 2}]
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump({"rows": listed}))
    command = ["rows=rows.yaml", f"root.grabcut={data['grabcut']}", "out=out", *QUIET[3:]]
    assert reproduce.run(command) == 1 and verdict_words(tmp_path / "out") == ["off"]
    assert reproduce.run([*command, "limit=1"]) == 3 and verdict_words(tmp_path / "out") == ["not judged"]
    shutil.rmtree(tmp_path / "out")
    (data["grabcut"] / "boundary_GT" / "s0.png").write_bytes(b"broken")
    assert reproduce.run(command) == 3 and verdict_words(tmp_path / "out") == ["not judged"]


def test_official_weights_that_are_not_here_name_the_command(home: Path, tmp_path: Path):
    for variant in ("sam_vit_b", "ritm_hrnet32", "mobilesam", "segnext_sax1", "hrsam"):
        entry = Catalogue().official(variant)
        with pytest.raises(UserError, match=rf"python -m harness\.fetch weights={entry.name}"):
            sweep.run([f"variant={variant}", "variant.weights=official", "measure=none"])
    with pytest.raises(UserError, match="has no official weights"):
        sweep.run(["variant=dense_lite", "variant.weights=official"])


def test_every_checkpoint_of_a_card_is_an_entry_with_its_facts():
    """Cards and manifests name the same files: digests, sizes and addresses agree."""
    from harness import cards

    known = Catalogue().of("weights")
    for variant, card in cards.load().items():
        for checkpoint in card.checkpoints:
            entry = known[checkpoint.name]
            if checkpoint.md5:
                assert entry.files[0].digest == f"md5:{checkpoint.md5}", variant
            if checkpoint.size_mb and entry.files:
                assert entry.files[0].about_mb == checkpoint.size_mb, variant
            if checkpoint.url and checkpoint.file is None and checkpoint.url.endswith((".pth", ".pt")):
                assert entry.files[0].urls[0] == checkpoint.url
            if checkpoint.drive:
                assert entry.files[0].urls[0].endswith(checkpoint.drive)
