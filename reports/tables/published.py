"""Published numbers beside ours: the paper's main table, its ablation table, and every baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from harness.scoring.registry import metric
from reports.literature import published, systems
from reports.literature.published import Published
from reports.read.metric_names import PUBLISHED
from reports.read.runs import Run
from reports.tables import speed
from reports.tables.columns import DATASET, METRIC, OURS
from reports.tables.table import Cell, Column, Row, Table, Value

TRIPLE = "Each cell reads published | measured here with its 95 % interval | difference (measured − published)."
_MAIN_METRICS = (
    ("HQSeg-44K", "5-mIoU"),
    ("HQSeg-44K", "NoC90"),
    ("HQSeg-44K", "NoC95"),
    ("DAVIS", "5-mIoU"),
    ("DAVIS", "NoC90"),
    ("DAVIS", "NoC95"),
)
_ABLATION_METRICS = (("HQSeg-44K", "5-mIoU"), ("HQSeg-44K", "NoC90"), ("DAVIS", "5-mIoU"), ("DAVIS", "NoC95"))
_TIMES = (("20-SPC (CPU)", "spc20"), ("Online SPC (CPU)", "online_spc"))
_ON = (("dpe", "on"), ("dha", "on"), ("hmoe", "on"), ("dlu", "on"))


@dataclass(frozen=True)
class Line:
    """A row of a published table: its label, the names under which it was published, and the switches it stands for."""

    label: str
    method: str
    published: tuple[str, ...]
    switches: tuple[tuple[str, str], ...] = ()
    backbone: str = "ViT-B"
    form: str = ""


MAIN = (
    Line("InterFormer", "InterFormer", ("",)),
    Line("SegNext", "SegNext", ("sax2 finetuned", "x2"), form="sax2"),
    Line("HQ-SAM", "HQ-SAM", ("",)),
    Line("HRSAM++ 2048", "HRSAM++", ("2048",)),
    Line("Inter2Former 2048", "Inter2Former", ("2048",), _ON),
)


def _switched(**states: str) -> tuple[tuple[str, str], ...]:
    return tuple((k, states.get(k, v)) for k, v in _ON)


ABLATION = (
    Line("Base", "Inter2Former", ("ablation: Base",), _ON),
    Line("DHA → all FA", "Inter2Former", ("ablation: DHA -> All FA",), _switched(dha="full")),
    Line("DHA → all BSQA", "Inter2Former", ("ablation: DHA -> All BSQA",), _switched(dha="bsq")),
    Line("BSQA → VQA", "Inter2Former", ("ablation: BSQA -> VQA",), _switched(dha="vq")),
    Line("DPE → non-DPE", "Inter2Former", ("ablation: DPE -> Non-DPE",), _switched(dpe="off")),
    Line("DLU → non-DLU", "Inter2Former", ("ablation: DLU -> Non-DLU",), _switched(dlu="off")),
    Line("HMoE → shared expert only", "Inter2Former", (), _switched(hmoe="shared")),
    Line("HMoE → dense feed-forward", "Inter2Former", (), _switched(hmoe="dense")),
)


def main(run: Run) -> Table:
    """The paper's main table: time as ratios, quality on HQSeg-44K and DAVIS."""
    reference = _reference(run)
    rows = _lined_up(
        run,
        MAIN,
        lambda line, variant: (
            *_times(run, line, variant, reference, MAIN[-1]),
            *_qualities(run, line, variant, _MAIN_METRICS),
        ),
    )
    columns = [Column("method", "Method"), *OURS]
    columns += [*_time_columns("Time, × Inter2Former", beside=True), *_metric_columns(_MAIN_METRICS)]
    caption = (
        f"{TRIPLE} Times are ratios to Inter2Former, since absolute times do not travel between machines"
        f"{f'; ours: {speed.describe(run)}' if reference else ''}. Published: Inter2Former (ICCV 2025), main table."
    )
    return Table("main", "The paper's main table", caption, tuple(columns), rows, _notes(run))


def ablation(run: Run) -> Table:
    """The paper's ablation table."""
    reference = _reference(run)
    rows = _lined_up(
        run,
        ABLATION,
        lambda line, variant: (
            *_qualities(run, line, variant, _ABLATION_METRICS),
            *_times(run, line, variant, reference, None),
        ),
    )
    columns = [Column("method", "Row"), *OURS]
    columns += [*_metric_columns(_ABLATION_METRICS), *_time_columns("Time, × base", beside=False)]
    claims = [
        f"{r.variant}: {r.value:g} %"
        for r in published.find(method="Inter2Former", dataset="(unspecified)")
        if r.unit == "%"
    ]
    notes = (*_notes(run), f"The paper's text also claims † {'; '.join(claims)}.") if claims else _notes(run)
    at = f", {speed.describe(run)}" if reference else ""
    caption = f"{TRIPLE} Times: ratios to our base{at}; the paper's table has none."
    return Table("ablation", "The paper's ablation table", caption, tuple(columns), rows, notes)


Cells = Callable[[Line, str | None], tuple[Cell, ...]]


def _lined_up(run: Run, lines: Iterable[Line], cells: Cells) -> tuple[Row, ...]:
    """A row for each variant that stands beside a published line, one for a line that has none."""
    return tuple(
        Row((*_names(run, line, variant), *cells(line, variant))) for line in lines for variant in _matching(run, line)
    )


def _qualities(run: Run, line: Line, variant: str | None, metrics: Iterable[tuple[str, str]]) -> list[Value]:
    return [_quality(run, line, variant, dataset, name) for dataset, name in metrics]


def _time_columns(group: str, beside: bool) -> list[Column]:
    titles = (("20-SPC ratio", "20-SPC"), ("Online ratio", "Online"))
    return [Column(key, title, group, "low", beside) for key, title in titles]


def _metric_columns(metrics: Iterable[tuple[str, str]]) -> list[Column]:
    return [_metric_column(dataset, name) for dataset, name in metrics]


def baselines(run: Run, everything: bool = False) -> Table:
    """Every published row of the methods that we run, with ours beside it where it may stand there."""
    mine = {v: systems.of(run, v) for v in run.variants}
    touched = {published.dataset_name(d) for d in run.datasets}
    methods = {s.method for s in mine.values()}
    rows = []
    for row in published.load():
        if row.metric not in PUBLISHED or row.variant.startswith("ablation"):
            continue
        if not everything and not (row.dataset in touched and row.method in methods):
            continue
        variant = next((v for v, s in mine.items() if s.published_as(row)), None)
        key = PUBLISHED[row.metric]
        value = _beside(run, variant, row.dataset, key, row)
        rows.append(
            Row(
                (
                    row.method,
                    row.backbone,
                    row.variant or "–",
                    row.training_data or "–",
                    row.dataset,
                    metric(key).title,
                    value,
                    variant or "–",
                    run.status(variant) if variant else "–",
                    _kind(row),
                    row.source,
                ),
                row.dataset,
            )
        )
    rows.sort(key=lambda r: r.cells[6].measured is None if isinstance(r.cells[6], Value) else True)
    columns = (
        Column("method", "Method"),
        Column("backbone", "Backbone"),
        Column("configuration", "Configuration"),
        Column("training_data", "Trained on"),
        DATASET,
        METRIC,
        Column("value", "Published | ours | difference", beside=True),
        *OURS,
        Column("source_kind", "Kind of source"),
        Column("source", "Source"),
    )
    return Table("published", "Published baselines", TRIPLE, columns, tuple(rows), _notes(run) if rows else ())


def _matching(run: Run, line: Line) -> list[str | None]:
    """Variants of a row; [None] where the run has none."""
    matching: list[str | None] = []
    for variant in run.variants:
        system = systems.of(run, variant)
        same = system.method == line.method and line.form in ("", system.form)
        # A reduced form names no backbone; it gets a row, without anything published beside it.
        other = system.backbone and not systems.same_backbone(system.backbone, line.backbone)
        if same and not other and (not line.switches or system.switches == line.switches):
            matching.append(variant)
    return matching or [None]


def _names(run: Run, line: Line, variant: str | None) -> tuple[Cell, ...]:
    if variant is None:
        return line.label, "not run", "–"
    system = systems.of(run, variant)
    remark = "lite" if system.small else next((r for r in map(system.other_size, _rows(line)) if r), "")
    return line.label, f"{variant}, {remark}" if remark else variant, run.status(variant)


def _rows(line: Line) -> list[Published]:
    rows = (r for r in published.find(method=line.method) if r.variant in line.published)
    return [r for r in rows if systems.same_backbone(line.backbone, r.backbone)]


def _quality(run: Run, line: Line, variant: str | None, dataset: str, name: str) -> Value:
    return _beside(run, variant, dataset, PUBLISHED[name], _published(line, dataset, name))


def _beside(run: Run, variant: str | None, dataset: str, key: str, row: Published | None) -> Value:
    m = metric(key)
    value = Value(digits=m.digits, published=row.value if row else None, trusted=row.trusted if row else True)
    if variant is None:
        return replace(
            value,
            missing=f"not measured: needs {dataset}" if not systems.our_dataset(run, dataset) else "not run",
        )
    needs = systems.obstacles(run, variant, dataset, row)
    if needs:
        return replace(value, missing="not measured: needs " + ", ".join(needs))
    ours = systems.our_dataset(run, dataset)
    whole = run.summary[
        (run.summary["variant"] == variant) & (run.summary["dataset"] == ours) & (run.summary["metric"] == key)
    ]
    whole = whole[whole["size_bin"].isin(("", "all"))]
    if len(whole) == 0:
        return replace(value, missing="not in this protocol")
    line = whole.iloc[0]
    limits = [speed.finite(line[k]) for k in ("low", "high")]
    low, high = (x * m.scale if x is not None else None for x in limits)
    return replace(
        value,
        measured=float(line["value"]) * m.scale,
        low=low,
        high=high,
        source=("summary", variant, ours, key, ""),
        too_few=low is None or high is None,
    )


def _published(line: Line, dataset: str, name: str) -> Published | None:
    for variant in line.published:
        rows = published.find(method=line.method, variant=variant, dataset=dataset, metric=name)
        rows = [r for r in rows if r.backbone == line.backbone or r.backbone.startswith(f"{line.backbone} (")]
        if rows:
            return rows[0]
    return None


def _times(run: Run, line: Line, variant: str | None, reference: str | None, unit: Line | None) -> tuple[Value, ...]:
    values = []
    for name, kind in _TIMES:
        value = Value(missing="not timed")
        if variant is not None and reference is not None:
            value = speed.ratio(run, variant, kind, reference)
        # A lite form's time is no measurement of the published system: no published number stands beside it.
        full = variant is None or not systems.of(run, variant).small
        mine, one = (
            (_published(line, "(unspecified)", name), _published(unit, "(unspecified)", name)) if unit else (None, None)
        )
        if full and mine is not None and one is not None:
            value = replace(value, published=mine.value / one.value, trusted=mine.trusted and one.trusted)
        values.append(value)
    return tuple(values)


def _reference(run: Run) -> str | None:
    """The variant that is 1 in the ratios: Inter2Former with all parts on, the base first."""
    candidates = [v for v in [run.base, *run.variants] if v is not None and systems.of(run, v).switches == _ON]
    return next((v for v in candidates if speed.milliseconds(run, v, "later") is not None), None)


def _metric_column(dataset: str, name: str) -> Column:
    m = metric(PUBLISHED[name])
    return Column(f"{dataset} {name}", m.title, dataset, m.better, True, m.meaning)


def _kind(row: Published) -> str:
    return row.source_kind.replace("_", " ") + ("" if row.trusted else " †")


def _notes(run: Run) -> tuple[str, ...]:
    protocols = run.protocol()
    return (
        published.MARK,
        f"Measured numbers: protocol {protocols}; only results on the whole published data set, with trained "
        "weights of the full-size model, stand beside a published one.",
    )
