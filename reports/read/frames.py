"""Reads the folder of a sweep into data frames, and says what an older or unfinished folder lacks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import UserError
from harness.planning import user_yaml
from harness.planning.identity import SCHEMA, STATISTICS, TIMING
from harness.results import files
from harness.results.csv_tables import read_csv
from harness.results.parquet import read_parquet
from reports.read.mine import Mine
from reports.read.runs import Run
from reports.read.schema import CLICKS, COMPARE, FAILURES, FLOPS, GROUPS, LATENCY, PARTS, SCALING, SUMMARY, TIMINGS

NEWEST_SCHEMA = SCHEMA
LARGEST = 8 << 20
"""Bytes of config.yaml and machine.json."""


def read(path: str | Path) -> Run:
    """Read the folder of a sweep; a file or column that is missing becomes a note, not an error.

    Raises:
        UserError: no such folder, no sweep in it, or a file that cannot be read.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"run={path}: no such folder. Give the out= folder of a sweep, for example run=runs/dha.")
    known = (
        "clicks.parquet",
        "summary.csv",
        "failures.csv",
        "latency.csv",
        "flops.csv",
        "cells",
        "config.yaml",
    )
    if not any((folder / name).exists() for name in known):
        raise UserError(
            f"run={path}: no sweep lies there (no clicks.parquet, cells/, …). Run harness.sweep out={path}."
        )
    notes: list[str] = []
    config = _mapping(folder / "config.yaml", notes)
    machine = _mapping(folder / "machine.json", notes)
    machine.pop("earlier", None)  # those of earlier runs: rows name theirs by id
    schema = config.get("schema", NEWEST_SCHEMA)
    if isinstance(schema, int) and schema > NEWEST_SCHEMA:
        notes.append(f"The folder has schema {schema}, newer than this report's {NEWEST_SCHEMA}: update the harness.")
    mine = Mine(config, notes)
    clicks, failed = _clicks(folder, notes)
    if not (folder / "clicks.parquet").exists():  # made of all that cells/ holds
        clicks, failed = mine.of(clicks, "cells/"), mine.of(failed, "cells/")
    clicks = _one_set_of_rules(clicks, config, notes)
    groups = _groups(folder, clicks, notes)
    summary, compare = _derived(folder, clicks, groups, config, notes)
    latency = mine.of(_csv(folder / "latency.csv", LATENCY, notes), "latency.csv")
    notes += [*_contention(latency), *_older_timing(latency)]
    failures = _csv(folder / "failures.csv", FAILURES, notes, quiet=True)
    if len(failures) == 0 and len(failed):
        failures = failed
    return Run(
        path=folder,
        name=str(_nested(config, "ablation", "name") or folder.name),
        clicks=clicks,
        summary=summary,
        compare=compare,
        latency=latency,
        flops=mine.of(_csv(folder / "flops.csv", FLOPS, notes), "flops.csv"),
        parts=mine.of(_csv(folder / "latency_parts.csv", PARTS, notes, quiet=True), "latency_parts.csv"),
        timings=mine.of(_timings(folder / "latency_samples.parquet"), "latency_samples.parquet"),
        scaling=mine.of(_csv(folder / "latency_scaling.csv", SCALING, notes, quiet=True), "latency_scaling.csv"),
        failures=failures,
        machine=machine,
        config=config,
        notes=tuple(notes),
        groups=groups,
    )


def _nested(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _mapping(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.exists():
        notes.append(f"{path.name} is missing.")
        return {}
    try:
        value = _json(path) if path.suffix == ".json" else user_yaml.load(path, LARGEST)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"cannot read {path}: {' '.join(str(error).split())}. Repeat the sweep's command; it writes the file anew."
        ) from error
    if not isinstance(value, dict):
        raise UserError(
            f"cannot read {path}: it holds no mapping. Repeat the sweep's command; it writes the file anew."
        )
    return value


def _json(path: Path) -> Any:
    files.check_plain(path, LARGEST)
    return json.loads(path.read_bytes())


def _csv(path: Path, columns: Mapping[str, Any], notes: list[str], quiet: bool = False) -> pd.DataFrame:
    if not path.exists():
        if not quiet:
            notes.append(f"{path.name} is missing.")
        return pd.DataFrame(columns=list(columns))
    try:
        frame = read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}. Repeat the sweep's command; it writes the file anew.") from error
    if not len(frame.columns):
        return pd.DataFrame(columns=list(columns))
    return _completed(frame, columns, path, notes)


def _completed(frame: pd.DataFrame, columns: Mapping[str, Any], path: Path, notes: list[str]) -> pd.DataFrame:
    missing = [c for c in columns if c not in frame]
    needed = [c for c in missing if columns[c] is None]
    if needed and len(frame):
        raise UserError(
            f"{path} lacks the column(s) {', '.join(needed)}; no report can be made of it. Repeat the sweep's command."
        )
    frame = frame.assign(**{c: columns[c] for c in missing})
    if missing and len(frame):
        notes.append(f"{path.name} comes from an older version: {', '.join(missing)} not recorded.")
    for name, default in columns.items():
        if isinstance(default, str):
            known = frame[name].notna() & (frame[name].astype(object) != "")
            frame[name] = frame[name].astype(object).where(known, default).astype(str)
    return frame


def _contention(latency: pd.DataFrame) -> list[str]:
    timed = latency[latency["median_ms"].notna()]
    doubtful = timed[timed["contended"].str.strip() != ""] if len(timed) else timed
    if len(doubtful) == 0:
        return []
    return [
        f"{len(doubtful)} of {len(timed)} latency rows were taken while other work ran on the machine "
        f"({doubtful['contended'].iloc[0]}): these times are doubtful, repeat them on an idle machine."
    ]


def _timings(path: Path) -> pd.DataFrame:
    """Every single timing, where it was kept with the columns that are used."""
    if not path.exists():
        return pd.DataFrame(columns=list(TIMINGS))
    try:
        frame = read_parquet(path)
    except Exception as error:  # pyarrow raises many types of its own
        raise UserError(f"cannot read {path}: {error}. Repeat the sweep's command with latency.") from error
    return frame if set(TIMINGS) <= set(frame) else pd.DataFrame(columns=list(TIMINGS))


def _clicks(folder: Path, notes: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    path = folder / "clicks.parquet"
    failed = pd.DataFrame(columns=list(FAILURES))
    if path.exists():
        try:
            frame = read_parquet(path)
        except Exception as error:  # pyarrow raises many types of its own
            raise UserError(
                f"cannot read {path}: {error}. Repeat the sweep's command; it writes the file anew."
            ) from error
        if len(frame) == 0:
            frame = pd.DataFrame(columns=list(CLICKS))
    else:
        frame, failed = _from_cells(folder / "cells")
        notes.append(
            f"The sweep has not finished: {len(frame)} rows were read from cells/."
            if len(frame)
            else "clicks.parquet is missing: no quality was measured."
        )
    return _completed(frame, CLICKS, path, notes), failed


def _groups(folder: Path, clicks: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """groups.parquet, of the cells whose clicks are shown; empty where there is none."""
    path = folder / "groups.parquet"
    if not path.exists():
        return pd.DataFrame(columns=list(GROUPS)).astype({"group": str})
    try:
        frame = read_parquet(path)
    except Exception as error:  # pyarrow raises many types of its own
        raise UserError(f"cannot read {path}: {error}. Repeat the sweep's command; it writes the file anew.") from error
    frame = _completed(frame, GROUPS, path, notes)
    frame["group"] = frame["group"].astype(str)
    numbers = {
        name: pd.to_numeric(frame[name], errors="coerce") for name in ("click", "iou", "y", "x", "height", "width")
    }
    frame = frame.assign(**numbers).dropna(subset=["click", "iou"])
    return frame[frame["cell"].isin(set(clicks["cell"]))].reset_index(drop=True)


def _from_cells(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of an unfinished sweep; lines that are none (a write in progress, damage) are left out."""
    from harness.results import cells
    from harness.results.schema import click_rows

    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        if not path.is_file():
            continue
        content = cells.read(path.read_bytes())
        header = content.header
        if header is None:
            continue
        rows += click_rows(header, ((e, origin) for e, origin in content.episodes.values() if not e.error))
        failed += [
            {
                "stage": "clicks",
                "variant": header.variant,
                "dataset": header.dataset,
                "sample": episode.sample,
                "error": episode.error,
            }
            for episode, _ in content.episodes.values()
            if episode.error
        ]
    return pd.DataFrame(rows, columns=None if rows else list(CLICKS)), pd.DataFrame(failed, columns=list(FAILURES))


def _one_set_of_rules(clicks: pd.DataFrame, config: Mapping[str, Any], notes: list[str]) -> pd.DataFrame:
    """The rows of one protocol, version and definition of the metrics; the others never share a column with them."""
    keys = ["protocol", "protocol_version", "metrics_version"]
    sets = clicks[keys].drop_duplicates()
    if len(sets) < 2:
        return clicks
    named = _nested(config, "protocol", "name")
    mine = sets[sets["protocol"] == named] if named in set(sets["protocol"]) else sets
    kept = mine.sort_values(keys[1:]).iloc[-1]
    chosen = (clicks[keys] == kept).all(axis=1)
    notes.append(
        f"{int((~chosen).sum())} rows were made under other rules and are left out; shown: protocol {kept.iloc[0]}, "
        f"version {kept.iloc[1]}, metrics version {kept.iloc[2]}."
    )
    return clicks[chosen].reset_index(drop=True)


def _older_timing(latency: pd.DataFrame) -> list[str]:
    timed = latency[latency["median_ms"].notna()]
    if len(timed) == 0:
        return []
    if int(timed["timing_version"].min()) >= TIMING:
        partial = {text.partition(", ")[2] for text in timed["workload"].astype(str) if ", clicks 1 to " in text}
        return [f"Online SPC and 20-SPC are means of a part of an episode: {text}." for text in sorted(partial)]
    return [
        "The times come from an older definition: Online SPC and 20-SPC hold clicks 2 and 3 for all later ones and the "
        "encoding of one image. Repeat the sweep's command to measure them again."
    ]


def _derived(
    folder: Path, clicks: pd.DataFrame, groups: pd.DataFrame, config: Mapping[str, Any], notes: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """summary.csv and compare.csv; made anew from the rows where they are missing or of older statistics."""
    from harness.protocol import DEFAULT_PRIMARY
    from harness.results import tables
    from harness.scoring import decision

    paths = {name: folder / f"{name}.csv" for name in ("summary", "compare")}
    unreadable: list[str] = []
    stored = {}
    for name, columns in (("summary", SUMMARY), ("compare", COMPARE)):
        stored[name] = _csv(paths[name], columns, unreadable)
    summary, compare = stored["summary"], stored["compare"]
    record = config.get("protocol") if isinstance(config.get("protocol"), Mapping) else {}
    primary = str(config.get("primary") or DEFAULT_PRIMARY)
    current = len(summary) > 0 and int(summary["statistics_version"].min()) >= STATISTICS
    if current or not len(clicks):
        notes += unreadable
        if len(compare) and compare["p_holm"].isna().all():
            compare = decision.with_holm(compare, primary)
        return summary, compare
    if len(summary):
        notes.append(
            "summary.csv and compare.csv have intervals and tests of an older version; made anew from the rows."
        )
    else:
        notes.append("summary.csv was made anew from the rows.")
    further = groups if len(groups) else None
    base = _nested(config, "ablation", "base") or (compare["base"].iloc[0] if len(compare) else None)
    summary = _completed(tables.summary(clicks, dict(record or {}), further), SUMMARY, paths["summary"], notes)
    if isinstance(base, str) and base in set(clicks["variant"]):
        compare = _completed(
            tables.compare(clicks, str(base), dict(record or {}), primary, further), COMPARE, paths["compare"], notes
        )
    return summary, compare
