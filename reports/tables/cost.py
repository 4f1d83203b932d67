"""Tables of cost: latency and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from reports.read.runs import Run
from reports.tables.cells import cell_of, count
from reports.tables.columns import KIND, SIZE_BIN, VARIANT, WEIGHTS
from reports.tables.speed import finite
from reports.tables.table import Cell, Column, Row, Table, Value


def reference(run: Run) -> str | None:
    """The variant whose time is 1 in every ratio: the base if it was timed, or the first that was."""
    timed = list(run.latency["variant"].unique())
    return run.base if run.base in timed else (timed[0] if timed else None)


def latency(run: Run) -> Table:
    """Latency of every variant, and its ratio to the reference under the same conditions."""
    keys = ["threads", "resolution", "kind", "size_bin"]
    timed = run.latency[run.latency["median_ms"].notna()].reset_index(drop=True)
    ref = reference(run)
    base = timed[timed["variant"] == ref].drop_duplicates(keys).set_index(keys)["median_ms"]
    counted = bool(timed["joules"].notna().any())
    rows = []
    for position, line in enumerate(timed.to_dict("records")):
        cells: tuple[Cell, ...] = (
            str(line["variant"]),
            run.status(str(line["variant"])),
            str(line["threads"]),
            str(line["resolution"]),
            KINDS.get(str(line["kind"]), str(line["kind"])),
            str(line["size_bin"]) or "all",
            cell_of(line, "median_ms", 1.0, 1, ("latency", position, "median_ms")),
            Value(finite(line["p90_ms"]), digits=1, source=("latency", position, "p90_ms")),
            _ratio(line, ref, base.get(tuple(line[k] for k in keys)), position),
            count(int(line["repeats"])),
            Value(finite(line["peak_rss_mb"]), digits=0, source=("latency", position, "peak_rss_mb")),
            *[Value(finite(line["joules"]), digits=2, source=("latency", position, "joules"))][: int(counted)],
            str(line["contended"]) or "quiet",
        )
        rows.append(Row(cells, "", str(line["size_bin"])))
    columns = (
        VARIANT,
        WEIGHTS,
        Column("threads", "Threads"),
        Column("resolution", "Longest side"),
        Column("kind", "What", help="encode: once per image; first: click 1; later: clicks 2 and on"),
        SIZE_BIN,
        Column("median_ms", "Median ms", better="low"),
        Column("p90_ms", "p90 ms", better="low"),
        Column("ratio", f"× {ref or 'reference'}", better="low", help="same row otherwise, paired by rounds"),
        Column("repeats", "Rounds"),
        Column("peak_rss_mb", "Peak MB", better="low"),
        *[Column("joules", "J", better="low", help="energy of the processor's packages")][: int(counted)],
        Column("contended", "Machine", help="what else ran meanwhile; such times are doubtful"),
    )
    cpu = run.machine.get("cpu_model") or run.machine.get("cpu") or "CPU not recorded"
    caption = (
        f"Median with its 95 % interval (none with fewer than seven rounds) on {cpu}, in a pinned process of its own. "
        "Times do not travel between machines; "
        f"ratios to {ref} do. Online SPC: mean click of 20; 20-SPC adds a twentieth of the encoding."
    )
    if "energy" in run.machine:
        caption += f" Energy: {str(run.machine['energy'])[:300]}."
    return Table("latency", "Latency", caption, columns, tuple(rows))


def _ratio(line: Mapping[Any, Any], ref: str | None, against: float | None, position: int) -> Value:
    """The ratio as measured, paired by rounds; of the medians where the file does not have it."""
    stored = finite(line.get("ratio", math.nan))
    if stored is not None and str(line.get("base")) == ref:
        limits = [finite(line.get(k, math.nan)) for k in ("ratio_low", "ratio_high")]
        low, high = limits if None not in limits else (None, None)
        return Value(stored, low, high, source=("latency", position, "ratio"))
    ratio = float(line["median_ms"]) / float(against) if against else None
    return Value(ratio, missing="" if ratio else "–", source=("median ratio", position, ref))


KINDS = {
    "encode": "encode",
    "first": "first click",
    "later": "later clicks",
    "online_spc": "Online SPC",
    "spc20": "20-SPC",
}


def flops(run: Run) -> Table:
    """Multiply-adds by part, click kind and object size."""
    rows = []
    for position, line in enumerate(run.flops[run.flops["gmacs"].notna()].to_dict("records")):
        cells: tuple[Cell, ...] = (
            str(line["variant"]),
            str(line["part"]),
            str(line["kind"]),
            str(line["size_bin"]),
            Value(finite(line["gmacs"]), digits=3, source=("flops", position, "gmacs")),
            Value(finite(line["gflops"]), digits=3, source=("flops", position, "gflops")),
        )
        rows.append(Row(cells, "", str(line["size_bin"])))
    columns = (
        VARIANT,
        Column("part", "Part"),
        KIND,
        SIZE_BIN,
        Column("gmacs", "GMACs", better="low", help="10⁹ multiply-adds"),
        Column("gflops", "GFLOPs", better="low", help="two per multiply-add"),
    )
    caption = "1 GMAC = 10⁹ multiply-adds = 2 GFLOPs; data-dependent operations (attention, gather, routing) included."
    return Table("flops", "Arithmetic by part", caption, columns, tuple(rows))


def held(fixed: str) -> dict[str, float]:
    """What a fit of latency_scaling.csv held: "threads=1 resolution=512" -> {threads: 1, resolution: 512}."""
    return {key: float(value) for key, value in (part.split("=", 1) for part in fixed.split())}


def in_words(fixed: str) -> str:
    """The same for a reader: "1 thread, longest side 512 px"."""
    values = held(fixed)
    words = []
    if "threads" in values:
        words.append(f"{values['threads']:g} thread{'s' if values['threads'] != 1 else ''}")
    if "resolution" in values:
        words.append(f"longest side {values['resolution']:g} px")
    return ", ".join(words)


def scaling(run: Run) -> Table:
    """How time grows with tokens, threads and boundary tokens: every fit of latency_scaling.csv."""
    rows = []
    for position, line in enumerate(run.scaling.to_dict("records")):
        exponent = line["law"] == "exponent"
        cells: tuple[Cell, ...] = (
            str(line["variant"]),
            run.status(str(line["variant"])),
            KINDS.get(str(line["kind"]), str(line["kind"])),
            "all" if line["part"] == "total" else str(line["part"]),
            str(line["against"]),
            in_words(str(line["fixed"])),
            cell_of(
                line, "value", 1.0, 2 if exponent else 1, ("scaling", position, "value"), signed=True, estimate=False
            ),
            "exponent" if exponent else "ms, none to all",
            count(int(line["points"])),
            str(line["values"]).replace(" ", ", ").replace("..", " to "),
        )
        rows.append(Row(cells))
    columns = (
        VARIANT,
        WEIGHTS,
        KIND,
        Column("part", "Part"),
        Column("against", "Grows with"),
        Column("held", "Held"),
        Column("value", "Growth", help="time ~ tokens^x or threads^x; or ms from no to all tokens on the boundary"),
        Column("law", "Unit"),
        Column("points", "Points", help="sizes, thread counts, or clicks that the fit goes through"),
        Column("values", "Measured at", help="longest sides in pixels, thread counts, or boundary shares"),
    )
    caption = (
        "Least squares on medians, with 95 % intervals from resampled rounds (none with fewer than five rounds, or "
        "for parts). Exponent over tokens: 1 is linear, 2 quadratic; over threads: −1 is a perfect speed-up, 0 none. "
        "Of the boundary: what a later click takes longer with all tokens on it than with none, an extrapolation where "
        "the measured shares lie close together."
    )
    return Table("scaling", "How time grows", caption, columns, tuple(rows))
