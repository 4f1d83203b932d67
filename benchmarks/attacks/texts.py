"""Names that are marks of some medium: of variants, data sets, samples, notes, errors, titles and folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.attacks import Attack
from benchmarks.attacks._result_files import clicks

NAMES = (
    r"$\frac{$", "$x$", "[/b]", "[bold", "[link=x]", "\\", "\\[b]", ":warning:", "<script>alert(1)</script>", "&lt;",
    "|",
    "a\nb", "\x1b[31m", "\x07", "\u202egnp", "`x`", "_hidden", "# x", "![x](y)", "{{ x }}", "{% x", "%s", "^", "日本",
    "é" * 300, "=1+1", "../../x", "..", "*",
)  # fmt: skip


def attacks(folder: Path) -> Iterator[Attack]:
    """Each name everywhere in a run's folder; each that a folder can have as out= of a sweep."""
    canary = folder / "executed"
    for index, name in enumerate(NAMES):
        run = folder / f"texts-{index}"
        run.mkdir(parents=True)
        clicks().assign(variant=name, dataset=name, sample=name, dataset_note=name).to_parquet(run / "clicks.parquet")
        failure = dict.fromkeys(("stage", "variant", "dataset", "sample", "error"), name)
        pd.DataFrame([failure]).to_csv(run / "failures.csv", index=False)
        config = {"ablation": {"name": name, "title": name, "base": name}, "command": name, "protocol": {"name": name}}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        yield Attack(f"report of {name!a:.40}", ("reports", f"run={run}"), canary, harmless=True)
        if "/" not in name and name != ".." and len(name) < 100:
            out = folder / "out" / name
            settings = (
                "variant=opencv_grabcut",
                "dataset.limit=1",
                "protocol.clicks=1",
                "measure=none",
                "report=false",
            )
            arguments = ("harness.sweep", *settings, "tracking.enabled=false", f"out={out}")
            yield Attack(f"out={name!a:.40}", arguments, canary, harmless=True)
