"""Which episodes are shown: the worst, the median, and between two variants the largest gain and the largest loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from harness.planning.disk import Trust
from reports.episodes.replay import CannotReplay, Episode, Replayer
from reports.plots.quality import curve
from reports.read.runs import Run

BESIDE = 6
"""Variants that stand beside each other; a screen holds no more pictures that can still be read."""


@dataclass(frozen=True)
class Choice:
    """A sample worth looking at.

    Attributes:
        title, reason: heading and why it was chosen, with numbers from the rows.
        dataset, sample, size_bin: which one.
        variants: one, the base and the other, or the base and several others.
    """

    title: str
    reason: str
    dataset: str
    sample: str
    size_bin: str
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """A choice with its replayed episodes."""

    choice: Choice
    episodes: tuple[Episode, ...]


def choose(run: Run, dataset: str) -> list[Choice]:
    """Worst and median sample of the base by mean IoU over the clicks; largest gain and loss of the other variant.

    With three variants or more, all of them (`BESIDE` at most) on the sample where their mean IoU differs most.
    """
    rows = run.clicks[run.clicks["dataset"] == dataset]
    means = {v: curve(rows[rows["variant"] == v]).mean(axis=1) for v in run.variants}
    means = {v: m for v, m in means.items() if len(m)}
    if not means:
        return []
    base = run.base if run.base in means else next(iter(means))
    sizes = rows.drop_duplicates("sample").set_index("sample")["size_bin"]
    # Equal scores fall back on the name, so that two reports of one run show the same samples.
    order = means[base].sort_index().sort_values(kind="stable")
    choices = []

    def add(title: str, reason: str, sample: str, *variants: str) -> None:
        choices.append(Choice(title, reason, dataset, sample, str(sizes.get(sample, "")), variants))

    worst, median = str(order.index[0]), str(order.index[(len(order) - 1) // 2])
    add(
        f"Worst sample of {base}",
        f"mean IoU over the clicks {order[worst] * 100:.1f} %, the lowest of {len(order)}",
        worst,
        base,
    )
    if median != worst:
        add(
            f"Median sample of {base}",
            f"mean IoU over the clicks {order[median] * 100:.1f} %, half do better",
            median,
            base,
        )
    other = partner(run, means, base)
    if other is not None:
        change = (means[other] - means[base]).dropna().sort_index().sort_values(kind="stable")
        gain, loss = str(change.index[-1]), str(change.index[0])
        if len(change) and change[gain] > 0:
            add(
                f"Largest gain of {other} over {base}",
                f"mean IoU over the clicks {change[gain] * 100:+.1f} points",
                gain,
                base,
                other,
            )
        if len(change) and change[loss] < 0:
            add(
                f"Largest loss of {other} against {base}",
                f"mean IoU over the clicks {change[loss] * 100:+.1f} points".replace("-", "−"),
                loss,
                base,
                other,
            )
    beside = [base, *(v for v in means if v != base)][:BESIDE]
    together = pd.DataFrame({v: means[v] for v in beside}).dropna().sort_index()
    if len(beside) > 2 and len(together):
        # Random weights differ most from everything, which shows nothing of the methods.
        ranked = [v for v in beside if run.ranked(v)]
        judged = ranked if len(ranked) > 1 else beside
        spread = together[judged].max(axis=1) - together[judged].min(axis=1)
        widest = str(spread.sort_values(ascending=False, kind="stable").index[0])
        scores = {v: float(means[v][widest]) * 100 for v in judged}
        low, high = min(judged, key=lambda v: scores[v]), max(judged, key=lambda v: scores[v])
        add(
            "Variants beside each other",
            f"mean IoU over the clicks from {scores[low]:.1f} % ({low}) to {scores[high]:.1f} % ({high}), "
            f"the widest range of {len(together)}",
            widest,
            *beside,
        )
    return choices


def partner(run: Run, means: dict[str, pd.Series], base: str) -> str | None:
    """The variant that differs most from the base over the same samples; random weights only as a last resort."""
    others = [v for v in means if v != base]
    others = [v for v in others if run.ranked(v)] or others
    if not others:
        return None
    return max(others, key=lambda v: float((means[v] - means[base]).abs().mean()))


def stories(
    run: Run, budget_s: float = 20.0, trust: Trust | None = None, tell: Callable[[Story], None] = lambda story: None
) -> tuple[list[Story], list[str]]:
    """Replayed episodes of every data set, and sentences about what could not be shown.

    Args:
        tell: called with each story as soon as it is whole.
    """
    replayer = Replayer(run, budget_s, trust or Trust())
    replayed: list[Story] = []
    failed: dict[str, list[str]] = {}
    for dataset in run.datasets:
        for choice in choose(run, dataset):
            if replayer.spent:
                return replayed, [
                    *_sentences(failed),
                    f"Not all episodes are shown: replaying stopped after {budget_s:.0f} s.",
                ]
            try:
                replayed.append(_story(replayer, choice, failed))
                tell(replayed[-1])
            except CannotReplay as error:
                failed.setdefault(str(error), []).append(choice.sample)
    return replayed, _sentences(failed)


def _story(replayer: Replayer, choice: Choice, failed: dict[str, list[str]]) -> Story:
    """A choice replayed. Of more than two variants those stay that can be replayed in time, if two can.

    Raises:
        CannotReplay: an episode that must be there cannot be replayed.
    """
    episodes: list[Episode] = []
    several = len(choice.variants) > 2
    for number, variant in enumerate(choice.variants):
        if several and len(episodes) > 1 and replayer.spent:
            break
        try:
            episodes.append(replayer.episode(variant, choice.dataset, choice.sample))
        except CannotReplay as error:
            left = len(choice.variants) - number - 1
            if not several or len(episodes) + left < 2:
                raise
            failed.setdefault(str(error), []).append(f"{choice.sample} by {variant}")
    return Story(choice, tuple(episodes))


def _sentences(failed: dict[str, list[str]]) -> list[str]:
    return [f"No pictures of {', '.join(dict.fromkeys(samples))}: {error}" for error, samples in failed.items()]
