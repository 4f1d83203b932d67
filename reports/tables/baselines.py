"""The systems of a run side by side: cost at one size and several thread counts, and ratios beside the published."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from harness.cards import Card
from harness.scoring.decision import Outcome, Timed, decide_times
from reports.literature import published, systems
from reports.literature.published import Published
from reports.literature.systems import System
from reports.read.runs import Run
from reports.tables.columns import VARIANT, WEIGHTS
from reports.tables.speed import finite
from reports.tables.table import Cell, Column, Row, Table, Value

CLICKS = 20
SPC = (("spc20", "20-SPC", "20-SPC (CPU)"), ("online_spc", "Online SPC", "Online SPC (CPU)"))
"""Kind of row in latency.csv, title, and metric of the published rows."""
_TIMES = (("encode", "Encode ms"), ("online_spc", "Online ms"), ("spc20", "20-SPC ms"))
_COUNTS = (("parameters", "Parameters"), ("gmacs", "GMACs a click of 20"), ("peak", "Peak memory"))

ALIKE = "This run holds one system under several switches: see table=latency and table=flops."


@dataclass(frozen=True)
class Costs:
    """Where the numbers of a run are found: one size, every thread count that was timed at it."""

    run: Run
    resolution: int | None
    threads: tuple[int, ...]

    @staticmethod
    def of(run: Run) -> Costs:
        """The costs at the largest size that was timed, or counted where nothing was timed."""
        timed = run.latency[run.latency["median_ms"].notna()]
        counted = run.flops[run.flops["gmacs"].notna()]
        sizes = timed["resolution"] if len(timed) else counted.get("resolution", pd.Series(dtype=int))
        largest = int(sizes.max()) if len(sizes) else None
        here = timed[timed["resolution"] == largest]
        return Costs(run, largest, tuple(sorted(int(n) for n in here["threads"].unique())))

    def milliseconds(self, variant: str, kind: str, threads: int) -> Value:
        """Median of a kind of latency.csv with its interval."""
        line = self._timed(variant, kind, threads)
        if line is None:
            return Value(missing=self._untimed(variant), digits=1)
        low, high = finite(line["low_ms"]), finite(line["high_ms"])
        return Value(float(line["median_ms"]), low, high, digits=1, source=("ms", variant, kind, threads))

    def timed(self, variant: str, kind: str, threads: int) -> Timed | None:
        """The same for the decision function, with what else ran on the machine."""
        line = self._timed(variant, kind, threads)
        if line is None:
            return None
        contended = str(line["contended"]).strip()
        low, high = float(line["low_ms"]), float(line["high_ms"])
        return Timed(float(line["median_ms"]), low, high, "" if contended == "nan" else contended)

    def peak_mb(self, variant: str) -> Value:
        """Most memory of one episode beyond the bare process, at the fewest threads."""
        lines = [self._timed(variant, "encode", n) for n in self.threads[:1]]
        amount = next((finite(line["peak_rss_mb"]) for line in lines if line is not None), None)
        if amount is None:
            return Value(missing=self._untimed(variant))
        return Value(amount, digits=0, source=("peak", variant))

    def gmacs(self, variant: str, kind: str) -> Value:
        """Multiply-adds of a kind of flops.csv in 1e9."""
        frame = self.run.flops[(self.run.flops["variant"] == variant) & self.run.flops["gmacs"].notna()]
        frame = frame[(frame["kind"] == kind) & (frame["part"] == "total") & frame["size_bin"].isin(("all", ""))]
        if "resolution" in frame and self.resolution is not None:
            frame = frame[frame["resolution"] == self.resolution]
        if len(frame) == 0:
            return Value(missing="not counted")
        return Value(float(frame["gmacs"].iloc[0]), source=("gmacs", variant, kind))

    def gmacs_of_20(self, variant: str) -> Value:
        """Multiply-adds a click of a 20-click episode, encoding shared out: what 20-SPC is for time."""
        parts = [self.gmacs(variant, kind).measured for kind in ("encode", "first", "later")]
        if None in parts:
            return Value(missing="not counted")
        encode, first, later = (float(p) for p in parts if p is not None)
        return Value((encode + first + (CLICKS - 1) * later) / CLICKS, source=("gmacs_of_20", variant))

    def parameters(self, variant: str) -> Value:
        """Number of parameters, from the rows of clicks or of FLOPs."""
        for frame in (self.run.clicks, self.run.flops):
            if "parameters" in frame:
                amounts = frame.loc[(frame["variant"] == variant) & (frame["parameters"] > 0), "parameters"]
                if len(amounts):
                    return Value(float(amounts.iloc[0]), source=("parameters", variant))
        return Value(missing="–" if self.run.status(variant) == "no weights" else "not recorded")

    def ratio(self, variant: str, kind: str, threads: int, base: str | None) -> Value:
        """A time over the base's, paired by rounds where latency.csv has it so."""
        line = self._timed(variant, kind, threads)
        against = self._timed(base, kind, threads) if base else None
        if line is None or against is None:
            return Value(missing=self._untimed(variant) if line is None else "base not timed")
        source = ("ratio", variant, kind, threads)
        stored = finite(line["ratio"]) if "ratio" in line and str(line.get("base")) == base else None
        if stored is None:
            return Value(float(line["median_ms"]) / float(against["median_ms"]), source=source)
        return Value(stored, finite(line["ratio_low"]), finite(line["ratio_high"]), source=source)

    def without_interval(self) -> list[str]:
        """A note that names what was timed in too few rounds for an interval."""
        frame = self.run.latency
        frame = frame[(frame["resolution"] == self.resolution) & frame["median_ms"].notna()]
        few = frame[(frame["kind"] == "encode") & ~np.isfinite(frame["high_ms"].astype(float))]
        if len(few) == 0:
            return []
        names = ", ".join(dict.fromkeys(str(v) for v in few["variant"]))
        rounds = sorted({int(n) for n in few["repeats"]})
        text = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        plural = "" if rounds == [1] else "s"
        return [f"Timed in {text} round{plural}, too few for an interval (7 are needed; measure.budget_s): {names}."]

    def _timed(self, variant: str | None, kind: str, threads: int) -> pd.Series | None:
        frame = self.run.latency
        frame = frame[(frame["variant"] == variant) & (frame["kind"] == kind) & frame["median_ms"].notna()]
        frame = frame[(frame["threads"] == threads) & (frame["resolution"] == self.resolution)]
        frame = frame[frame["size_bin"].isin(("all", ""))]
        return frame.iloc[0] if len(frame) else None

    def _untimed(self, variant: str) -> str:
        failed = self.run.latency
        failed = failed[(failed["variant"] == variant) & (failed["error"].astype(str).str.strip() != "")]
        return "failed" if len(failed) else "not timed"


def table(run: Run) -> Table:
    """Cost of every system; without rows where a run holds switches of one system only."""
    costs = Costs.of(run)
    mine = {v: _system(run, v, costs.resolution) for v in run.variants}
    targets = {str(run.variant_configs.get(v, {}).get("_target_", v)) for v in run.variants}
    base = run.base
    unit = {metric: _time(mine[base], metric) if base in mine else None for *_, metric in SPC}
    rows = [Row(_cells(costs, v, mine[v], base, unit)) for v in run.variants] if len(targets) > 1 else []
    columns = (
        VARIANT,
        Column("system", "System"),
        WEIGHTS,
        Column("published_as", "Published as"),
        Column("paper", "Paper"),
        Column("training", "Official weights trained on"),
        Column("licence", "Licence of code, weights"),
        Column("parameters", "Parameters (M)", better="low"),
        *(Column(f"{k} gmacs", title, "GMACs", "low") for k, title in (("encode", "image"), ("later", "click"))),
        Column("peak_mb", "Peak MB", better="low", help="memory of one episode beyond the bare process"),
        *(Column(f"{k} {n}", title, _threads(n), "low") for n in costs.threads for k, title in _TIMES),
        *itertools.chain.from_iterable(_ratio_columns(costs, base, kind, title) for kind, title, _ in SPC),
        *(Column(f"{key} ratio", title, f"Other costs, × {base}", "low") for key, title in _COUNTS),
    )
    at = f"longest side {costs.resolution} px" if costs.resolution else "nothing timed"
    caption = (
        f"Every system at one size ({at}): once per image, per click (mean of {CLICKS}), and 20-SPC = encode / 20 + "
        f"online, each with its 95 % interval; as ratios to {base} beside the ratios of the published times. "
        "Random weights change no time of these systems, and no quality is read from them."
    )
    notes = _notes(costs, mine) if rows else (ALIKE,)
    return Table("baselines", "Systems side by side", caption, columns, tuple(rows), notes)


def _cells(
    costs: Costs, variant: str, system: System, base: str | None, unit: dict[str, Published | None]
) -> tuple[Cell, ...]:
    parameters = costs.parameters(variant)
    in_millions = None if parameters.measured is None else parameters.measured / 1e6
    cells: list[Cell] = [
        variant + (" (base)" if variant == base else ""),
        _label(system),
        costs.run.status(variant),
        _published_as(system),
        *_facts(system.card),
        replace(parameters, measured=in_millions, digits=2),
        replace(costs.gmacs(variant, "encode"), digits=1),
        costs.gmacs(variant, "later"),
        costs.peak_mb(variant),
    ]
    cells += [costs.milliseconds(variant, kind, n) for n in costs.threads for kind, _ in _TIMES]
    for kind, _, metric in SPC:
        cells.append(_published_ratio(system, metric, unit[metric]))
        cells += [costs.ratio(variant, kind, n, base) for n in costs.threads]
    for key, amount in (("parameters", costs.parameters), ("gmacs", costs.gmacs_of_20), ("peak", costs.peak_mb)):
        one, whole = amount(variant), amount(base) if base else Value()
        known = one.measured is not None and whole.measured
        cells.append(
            Value(one.measured / whole.measured, source=(f"{key} ratio", variant))  # type: ignore[operator]
            if known
            else Value(missing=one.missing or "–")
        )
    return tuple(cells)


def _ratio_columns(costs: Costs, base: str | None, kind: str, title: str) -> list[Column]:
    group = f"{title}, × {base}"
    columns = [Column(f"{kind} ratio published", "published †", group, "low")]
    return columns + [Column(f"{kind} ratio {n}", _threads(n), group, "low") for n in costs.threads]


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count != 1 else ''}"


def _system(run: Run, variant: str, resolution: int | None) -> System:
    """The system, with the side of its input as it was timed."""
    system = systems.of(run, variant)
    return replace(system, side=system.side or resolution)


def _label(system: System) -> str:
    return ", ".join(part for part in (system.label or "–", system.form, system.backbone) if part)


def _facts(card: Card | None) -> tuple[str, str, str]:
    """Paper, training sets and licences, as the card has them."""
    if card is None:
        return "–", "–", "–"
    training = "not stated" if card.training is None else ", ".join(card.training) or "–"
    paper = card.paper.short if card.paper is not None else "–"
    return paper, training, f"{card.licence.code or 'not stated'}, {card.licence.weights or 'not stated'}"


def _time(system: System, metric: str) -> Published | None:
    """The published time of a system; rows of one table all, so that their ratios mean something."""
    return next((r for r in published.find(metric=metric, unit="ms") if system.published_as(r)), None)


def _published_as(system: System) -> str:
    row = _time(system, SPC[0][2])
    if row is None:
        return "–"
    size = system.other_size(row)
    if system.published_side(row) is None:
        size = f"size not stated, here {system.side}"
    return f"{row.method} {row.variant}".strip() + (f": {size}" if size else "")


def _published_ratio(system: System, metric: str, unit: Published | None) -> Value:
    row = _time(system, metric)
    if row is None or unit is None:
        return Value(missing="–")
    return Value(row.value / unit.value, trusted=row.trusted and unit.trusted, source=("published", metric))


def _notes(costs: Costs, mine: dict[str, System]) -> tuple[str, ...]:
    notes = [
        published.MARK,
        "Neither the CPU nor the threads behind the published times are stated anywhere: only ratios can be compared.",
        "Published ratios stand beside a system of the same method, backbone and form only; where the size differs, "
        "the row says so, and the two ratios are not of the same work.",
    ]
    notes += costs.without_interval()
    for kind, title, metric in SPC:
        for threads in costs.threads:
            notes += _order(costs, mine, kind, title, metric, threads)
    return tuple(notes)


def _order(costs: Costs, mine: dict[str, System], kind: str, title: str, metric: str, threads: int) -> list[str]:
    """What of the published order is shown to be otherwise, and the arithmetic behind it."""
    both: list[tuple[float, str, Timed]] = []
    for variant, system in mine.items():
        row, time = _time(system, metric), costs.timed(variant, kind, threads)
        if row is not None and time is not None:
            both.append((row.value, variant, time))
    notes = []
    for (p, a, m), (q, b, n) in itertools.combinations(sorted(both, key=lambda entry: entry[:2]), 2):
        if p < q and decide_times(n, m).outcome is Outcome.WORSE:
            notes.append(
                f"Other order than published ({title}, {_threads(threads)}): {a} {m.median:.0f} ms, {b} "
                f"{n.median:.0f} ms here; {p:g} and {q:g} ms published. {_why(costs, mine, kind, a, b)}"
            )
    return notes


def _why(costs: Costs, mine: dict[str, System], kind: str, a: str, b: str) -> str:
    """The arithmetic of two systems, and their sizes where those are not the published ones."""
    texts = []
    for variant in (a, b):
        amount = costs.gmacs_of_20(variant) if kind == "spc20" else costs.gmacs(variant, "later")
        row = _time(mine[variant], SPC[0][2])
        size = mine[variant].other_size(row) if row is not None else ""
        number = "not counted" if amount.measured is None else f"{amount.number(amount.measured)} GMACs a click"
        texts.append(f"{variant}: {number}{f' ({size})' if size else ''}")
    return "; ".join(texts) + "."
