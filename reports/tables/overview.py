"""The table on top: what each variant buys, and at what cost."""

from __future__ import annotations

from harness.scoring.registry import metric
from reports.read.runs import Run
from reports.tables import speed
from reports.tables.cells import cell_of, count
from reports.tables.columns import RESULT, metric_columns
from reports.tables.table import Cell, Column, Row, Table, Value

_KEYS = ("noc90", "miou5")


def overview(run: Run) -> Table:
    """A row a variant and data set: quality with intervals, time as a ratio, arithmetic, size of the model."""
    whole = run.summary[run.summary["size_bin"].isin(("", "all"))]
    keys = [k for k in _KEYS if k in set(whole["metric"])]
    reference = _reference(run)
    rows = []
    for dataset in run.datasets or ["–"]:
        for variant in run.variants:
            mine = whole[(whole["variant"] == variant) & (whole["dataset"] == dataset)]
            cells: list[Cell] = [
                variant + (" (base)" if variant == run.base else ""),
                dataset,
                run.note(dataset) or "as published",
            ]
            cells += [
                run.status(variant),
                count(int(mine["samples"].max()), run.attempted(dataset)) if len(mine) else Value(missing="–"),
            ]
            for key in keys:
                line, m = mine[mine["metric"] == key], metric(key)
                source = ("summary", variant, dataset, key, "")
                cells.append(
                    cell_of(line.iloc[0], "value", m.scale, m.digits, source)
                    if len(line)
                    else Value(missing="not measured")
                )
            cells += [
                _milliseconds(run, variant),
                _ratio(run, variant, reference),
                _gmacs(run, variant),
                _parameters(run, variant),
            ]
            rows.append(Row(tuple(cells), dataset if dataset != "–" else ""))
    columns = [*RESULT]
    columns += metric_columns(keys)
    columns += [
        Column("later_ms", "Click ms", better="low", help="median of clicks after the first, measured alone"),
        Column("ratio", f"× {reference or 'reference'}", better="low", help="the same time over the reference's"),
        Column("gmacs", "GMACs a click", better="low", help="10⁹ multiply-adds of a click after the first"),
        Column("parameters", "Parameters (M)"),
    ]
    where = speed.describe(run)
    caption = f"Means over samples with 95 % intervals, protocol {run.protocol()}" + (
        f"; times: {where}." if where else "."
    )
    return Table("overview", "At a glance", caption, tuple(columns), tuple(rows))


def _reference(run: Run) -> str | None:
    candidates = [v for v in [run.base, *run.variants] if v is not None]
    return next((v for v in candidates if speed.milliseconds(run, v, "later") is not None), None)


def _milliseconds(run: Run, variant: str) -> Value:
    lines = speed.rows(run, variant, "later")
    if len(lines) == 0:
        return Value(
            speed.milliseconds(run, variant, "later"), missing="not timed", digits=1, source=("later_ms", variant)
        )
    return cell_of(lines.iloc[0], "median_ms", 1.0, 1, ("later_ms", variant))


def _ratio(run: Run, variant: str, reference: str | None) -> Value:
    return Value(missing="not timed") if reference is None else speed.ratio(run, variant, "later", reference)


def _gmacs(run: Run, variant: str) -> Value:
    frame = run.flops[(run.flops["variant"] == variant) & (run.flops["kind"] == "later") & run.flops["gmacs"].notna()]
    frame = frame[frame["size_bin"].isin(("all", ""))]
    if "resolution" in frame and len(frame):
        frame = frame[frame["resolution"] == frame["resolution"].max()]
    if len(frame) == 0:
        return Value(missing="not counted")
    total = frame[frame["part"] == "total"]
    amount = float(total["gmacs"].iloc[0]) if len(total) else float(frame["gmacs"].sum())
    return Value(amount, digits=3, source=("later_gmacs", variant))


def _parameters(run: Run, variant: str) -> Value:
    amounts = run.clicks.loc[run.clicks["variant"] == variant, "parameters"]
    amount = float(amounts.iloc[0]) if len(amounts) else 0.0
    return Value(amount / 1e6, digits=2, source=("parameters", variant)) if amount else Value(missing="–")
