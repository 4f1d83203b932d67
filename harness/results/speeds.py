"""How fast variants were on this machine in earlier runs: what `dry_run=true` estimates from.

One JSON file in the user's cache folder, for all sweeps. It is a convenience: where it is missing, damaged, of another
version or not writable, estimates are missing and nothing else happens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import platformdirs

from harness.latency import pinning
from harness.results.files import Lock, replace

if TYPE_CHECKING:
    import pandas as pd

    from harness.planning.plan import Cell

VERSION = 1
"""Form of the file; one of another version is as good as none, and is written anew."""
MOST = 5000
"""Entries that are kept, the newest."""


KIN = 3
"""Variants whose speed an estimate from FLOPs takes."""


@dataclass(frozen=True)
class Speed:
    """What one variant cost on one data set; None: not known.

    Attributes:
        encode_ms: median time of encoding an image.
        click_ms: mean time of a click: the annotator's, the model's and that of scoring where it was seen.
        clicks: mean clicks of an episode.
        gmacs_encode, gmacs_click: multiply-accumulates in 1e9, of an encode and of a later click.
        weights: "released", "trained here", "untrained", or "" where it is not known.
        at: when it was measured, UTC.
        target: class of the variant, as its `_target_`.
    """

    encode_ms: float | None = None
    click_ms: float | None = None
    clicks: float | None = None
    gmacs_encode: float | None = None
    gmacs_click: float | None = None
    weights: str = ""
    at: str = ""
    target: str = ""

    def seconds(self, most_clicks: int) -> float | None:
        """Of one sample, with `most_clicks` where the length of an episode is not known; None without times."""
        if self.encode_ms is None or self.click_ms is None:
            return None
        return (self.encode_ms + self.click_ms * (self.clicks or most_clicks)) / 1e3


class Speeds:
    """The stored speeds of this machine at one number of threads (None: all cores).

    Args:
        threads: of the quality pass.
        path: of the file; the user's cache folder by default.
    """

    def __init__(self, threads: int | None, path: Path | None = None):
        self.path = path or default_path()
        self.machine = machine_key(threads)
        self._entries = _read(self.path).get(self.machine, {})

    def of(self, cell: Cell) -> tuple[Speed | None, str]:
        """What is known of a cell's variant, and where from: "" this data set, else what stands in for it."""
        mine = self._entries.get(variant_key(cell.variant.shown), {})
        exact = mine.get(cell.data.digest)
        if exact is not None and exact.click_ms is not None:
            return exact, ""
        timed = [(speed.at, digest) for digest, speed in mine.items() if speed.click_ms is not None]
        if timed:
            return mine[max(timed)[1]], "on other images"
        counted = [speed for speed in mine.values() if speed.gmacs_click is not None]
        if not counted:
            return None, ""
        count = counted[-1]
        kin, source = self._kin(str(cell.variant.shown.get("_target_", "")), count.gmacs_click or 0.0)
        return (_from_flops(count, median(kin)), f"roughly, from its FLOPs and {source}") if kin else (None, "")

    def add(self, measured: Mapping[tuple[str, str], Speed]) -> None:
        """Write (variant key, digest of the data set) -> speed over what is stored; a file that cannot be written
        stays as it is."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with Lock(self.path.with_suffix(".lock"), wait=True):
                machines = _read(self.path)
                mine = machines.setdefault(self.machine, {})
                for (variant, digest), speed in measured.items():
                    before = mine.setdefault(variant, {}).get(digest, Speed())
                    known = {k: v for k, v in asdict(speed).items() if v not in (None, "")}
                    mine[variant][digest] = Speed(**{**asdict(before), **known})
                replace(self.path, lambda path: path.write_text(json.dumps(_record(machines))))
                self._entries = mine

    def _kin(self, target: str, gmacs: float) -> tuple[list[float], str]:
        """Milliseconds a GMAC of the variants that are likest, and who they are.

        Those of the same class where there are any, else all; of them the `KIN` whose clicks cost the most similar
        number of GMACs, since a small network gets less out of a processor than a large one.
        """
        timed = [
            speed
            for entries in self._entries.values()
            for speed in entries.values()
            if speed.click_ms and speed.gmacs_click
        ]
        same = [speed for speed in timed if target and speed.target == target]
        chosen = sorted(same or timed, key=lambda speed: abs(math.log((speed.gmacs_click or 1.0) / (gmacs or 1.0))))
        rates = [(speed.click_ms or 0.0) / (speed.gmacs_click or 1.0) for speed in chosen[:KIN]]
        return rates, "the speed of its class here" if same else "the speed of other systems here"


def default_path() -> Path:
    """speeds.json in $IS_BENCH_CACHE, else in the user's cache folder (~/.cache, ~/Library/Caches)."""
    own = os.environ.get("IS_BENCH_CACHE")
    folder = Path(own) if own else platformdirs.user_cache_path("interactive-segmentation-bench")
    return folder / "speeds.json"


def machine_key(threads: int | None) -> str:
    """Digest of what a speed depends on beside the variant: node, processor, cores, threads."""
    model = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line for line in lines if line.startswith(("model name", "CPU part"))), "")
    cores = pinning.all_threads()
    return _digest([platform.node(), platform.machine(), model, os.cpu_count(), cores, threads or cores])


def variant_key(shown: Mapping[str, Any]) -> str:
    """Digest of a variant's settings."""
    return _digest(dict(shown))


def seen(
    cells: list[Cell], clicks: pd.DataFrame, flops: pd.DataFrame | None, machine: str
) -> dict[tuple[str, str], Speed]:
    """Speeds of the cells, from the rows of clicks.parquet that this machine made, and from flops.csv."""
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    speeds: dict[tuple[str, str], Speed] = {}
    for cell in cells:
        rows = clicks[
            (clicks["variant"] == cell.variant.name)
            & (clicks["dataset"] == cell.data.name)
            & (clicks["machine"] == machine)
        ]
        values: dict[str, Any] = {}
        if len(rows):
            values = {
                "encode_ms": float(rows.drop_duplicates("sample")["encode_ms"].median()),
                "click_ms": float((rows["online_ms"] + rows["simulate_ms"]).mean()),
                "clicks": float(rows.groupby("sample").size().mean()),
                "weights": str(rows["weights_status"].iloc[0]),
            }
        if flops is not None:
            values |= _gmacs(flops, cell.variant.name)
        if values:
            speeds[variant_key(cell.variant.shown), cell.data.digest] = Speed(
                **values, at=at, target=str(cell.variant.shown.get("_target_", ""))
            )
    return speeds


def _gmacs(flops: pd.DataFrame, variant: str) -> dict[str, float]:
    total = flops[(flops["variant"] == variant) & (flops["part"] == "total") & (flops["size_bin"] == "all")]
    means = {
        name: float(total.loc[total["kind"] == kind, "gmacs"].mean())
        for name, kind in (("gmacs_encode", "encode"), ("gmacs_click", "later"))
    }
    return {name: value for name, value in means.items() if math.isfinite(value)}


def _from_flops(speed: Speed, ms_per_gmac: float) -> Speed:
    return Speed(
        encode_ms=(speed.gmacs_encode or 0.0) * ms_per_gmac,
        click_ms=(speed.gmacs_click or 0.0) * ms_per_gmac,
        weights=speed.weights,
    )


Stored = dict[str, dict[str, dict[str, Speed]]]
"""machine -> variant -> data set -> speed"""


def _read(path: Path) -> Stored:
    """What the file holds; nothing of a file that is missing, damaged or of another version."""
    try:
        value = json.loads(path.read_text())
        if value["version"] != VERSION:
            return {}
        return {
            str(machine): {
                str(variant): {str(digest): _speed(record) for digest, record in records.items()}
                for variant, records in variants.items()
            }
            for machine, variants in value["machines"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _speed(record: Mapping[str, Any]) -> Speed:
    """A checked record; raises ValueError or TypeError for anything else than positive numbers and texts."""
    for name, value in record.items():
        if name in ("weights", "at", "target"):
            if not isinstance(value, str):
                raise ValueError(f"{name} is no text")
        elif value is not None and not (isinstance(value, (int, float)) and 0 <= value < math.inf):
            raise ValueError(f"{name} is no time")
    known = {field.name for field in fields(Speed)}
    return Speed(**{name: value for name, value in record.items() if name in known})


def _record(machines: Stored) -> dict[str, Any]:
    newest = sorted(
        ((speed.at, m, v, d) for m, vs in machines.items() for v, ds in vs.items() for d, speed in ds.items()),
        reverse=True,
    )[:MOST]
    kept: dict[str, dict[str, dict[str, Any]]] = {}
    for _, machine, variant, digest in newest:
        kept.setdefault(machine, {}).setdefault(variant, {})[digest] = asdict(machines[machine][variant][digest])
    return {"version": VERSION, "machines": kept}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
