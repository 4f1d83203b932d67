"""Models that misbehave, each between two good ones: the good ones' rows must be whole, and each failure named.

What only raises or answers wrongly shares one process with the others; what ends a process or hangs has a sweep of
its own, which is given again as its user would.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
import yaml

from benchmarks.attacks import Attack
from benchmarks.attacks._sweeps import USER_FOLDER, failed, rows, seed, sweep, whole

MODELS = Path(__file__).with_name("models")
PLACES = ("build", "encode", "start", "click")
SAMPLES = ("square0", "square1")
DATA = ("dataset=squares", f"dataset.limit={len(SAMPLES)}", "dataset.count=2")
RAISING = (
    "exits_0", "exits_text", "raises", "raises_base", "raises_generator", "raises_stop", "raises_lines",
    "raises_markup", "raises_surrogate", "raises_half_pair", "raises_huge", "raises_unprintable", "raises_memory",
    "recurses",
)  # fmt: skip
ANSWERING = (
    "none", "list", "number", "nan", "complex", "masked", "object", "text", "bytes", "time", "record", "three_axes",
    "smaller", "turned", "empty",
)  # fmt: skip
ENDING = (
    ("leaves", "encode"), ("leaves_3", "click"), ("aborts", "build"), ("segfaults", "build"), ("segfaults", "click"),
)  # fmt: skip
HANGING = (("hangs", "encode"), ("hangs", "click"))


def user_folder(folder: Path) -> Path:
    """The toy systems with the misbehaving one beside them."""
    shutil.copytree(USER_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(MODELS, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return folder


def ablation(mine: Path, name: str, deeds: Iterable[tuple[str, str]]) -> list[str]:
    """Write ablation/NAME.yaml: a good variant, one for each (how, where), another good one; names of the bad ones."""
    bad = {f"{how}_{where}": {"variant": "misbehaving", "how": how, "where": where} for how, where in deeds}
    variants = {"before": {"variant": "disc"}, **bad, "after": {"variant": "disc", "radius": 6}}
    content = {"ablation": {"name": name, "title": name, "base": "before", "variants": variants}}
    (mine / "ablation" / f"{name}.yaml").write_text(f"# @package _global_\n{yaml.safe_dump(content, sort_keys=False)}")
    return list(bad)


def attack(
    folder: Path, mine: Path, name: str, deeds: list[tuple[str, str]], good: pd.DataFrame, *settings: str
) -> Attack:
    """A sweep of these deeds between two good variants."""
    out = folder / "runs" / name
    bad = ablation(mine, name, deeds)
    arguments = sweep(mine, out, f"+ablation={name}", *DATA, *settings)
    expected = [(variant, sample) for variant in bad for sample in SAMPLES]
    return Attack(
        name, arguments, folder / "executed", failed_rows=True, missing=whole(out, good),
        unsaid=failed(out, expected), inputs=len(deeds),
    )  # fmt: skip


def together(folder: Path, mine: Path, good: pd.DataFrame) -> Iterator[Attack]:
    """What raises and what answers wrongly."""
    for place in PLACES:
        yield attack(folder, mine, f"raising_{place}", [(how, place) for how in RAISING], good)
    yield attack(folder, mine, "answering", [(how, "click") for how in ANSWERING], good)


def reference(folder: Path, mine: Path) -> pd.DataFrame:
    """Rows of the two good variants alone."""
    ablation(mine, "good", [])
    seed(sweep(mine, folder / "good", "+ablation=good", *DATA))
    return rows(folder / "good")


def attacks(folder: Path) -> Iterator[Attack]:
    """All misbehaviours."""
    mine = user_folder(folder / "mine")
    good = reference(folder, mine)
    yield from together(folder, mine, good)
    for how, where in HANGING:
        yield attack(folder, mine, f"{how}_{where}", [(how, where)], good, "executor.episode_timeout_s=1")
    for how, where in ENDING:
        dying = attack(folder, mine, f"{how}_{where}", [(how, where)], good)
        # A model that leaves with an exit code of its own cannot be told from a command that ended so.
        yield Attack(**{**vars(dying), "repeats": 1, "dies": (0, 3)})
