"""Plot of a metric over several runs."""

from __future__ import annotations

from collections.abc import Sequence

from harness.scoring.registry import metric
from reports.plots.style import Plot, drawing, looks
from reports.read.runs import Run
from reports.read.words import label, lettering, slug
from reports.tables.timeline import name, rules_of


def drift(runs: Sequence[Run], dataset: str, key: str = "noc90") -> Plot | None:
    """A metric over the runs, one line a variant, with intervals."""
    variants = list(dict.fromkeys(v for run in runs for v in run.variants))
    look = looks(variants)
    m = metric(key)
    last = next((run for run in reversed(runs) if dataset in run.datasets), runs[-1])
    left_out = [run for run in runs if dataset in run.datasets and rules_of(run, dataset) != rules_of(last, dataset)]
    kept = [run for run in runs if all(run is not other for other in left_out)]
    sentences, drawn = [], False
    with drawing(6.4, 3.8) as (figure, (ax,)):
        for position, variant in enumerate(variants):
            points = []
            for x, run in enumerate(runs):
                line = run.summary[(run.summary["variant"] == variant) & (run.summary["dataset"] == dataset)]
                line = line[(line["metric"] == key) & line["size_bin"].isin(("", "all"))]
                if len(line) and any(run is other for other in kept):
                    points.append(
                        (
                            x + 0.05 * (position - len(variants) / 2),
                            *line.iloc[0][["value", "low", "high"]].astype(float),
                        )
                    )
            if not points:
                continue
            drawn = True
            style = look[variant]
            at, value, low, high = (list(column) for column in zip(*points, strict=True))
            ax.plot(
                at,
                [v * m.scale for v in value],
                color=style.colour,
                linestyle=style.dash,
                marker=style.marker,
                label=label(runs[-1], variant),
            )
            ax.vlines(at, [v * m.scale for v in low], [v * m.scale for v in high], color=style.colour, linewidth=1)
            sentences.append(f"{variant} " + ", ".join(f"{v * m.scale:.2f}" for v in value))
        ax.set_xticks(range(len(runs)), [name(run) for run in runs], rotation=20 if len(runs) > 3 else 0)
        ax.set_xlim(-0.4, len(runs) - 0.6)
        ax.set(ylabel=f"{m.title} ({m.unit})")
        ax.set_title(lettering(dataset))
        if drawn:
            ax.legend(loc="best", handlelength=2.6)
    if not drawn:
        return None
    caption = f"{m.title} of each run with its 95 % interval, oldest run left; protocol {last.protocol(dataset)}."
    if left_out:
        caption += f" Left out, under other rules: {', '.join(name(run) for run in left_out)}."
    return Plot(
        f"history_{key}_{slug(dataset)}",
        f"{m.title} over the runs, {dataset}",
        caption,
        f"Line chart of {m.title} over {len(runs)} runs: {'; '.join(sentences)}.",
        figure,
        dataset,
    )
