"""How latency grows: power laws over threads and image size, straight lines over boundary share, with intervals.

The fits answer: does a part grow linearly or quadratically with the number of tokens, what do more threads bring, and
what does a token on the boundary cost. Intervals come from resampling rounds: timings of one round belong together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from harness.latency.frames import TOTAL

COLUMNS = [
    "variant", "kind", "part", "against", "fixed", "law", "value", "low", "high", "points", "values",
]  # fmt: skip
_DRAWS = 1000
FEWEST = 5
"""Rounds below which a fit has no interval: resampled, 3 and 4 rounds cover 90 and 92 % instead of 95 %."""


def fit(timings: pd.DataFrame, parts: pd.DataFrame | None = None, seed: int = 0) -> pd.DataFrame:
    """Fit what the measured grid allows; rows only where there are at least two sizes, thread counts, or shares.

    Args:
        timings: every timing: variant, threads, resolution, round, image, click, ms, boundary_share.
        parts: rows of latency_parts.csv (their exponents have no interval: they are medians already).
        seed: of the bootstrap.

    Returns:
        One row per fit. `law` is ``exponent`` (time ~ tokens^value for `against` = tokens, time ~ threads^value for
        threads; -1 is a perfect speed-up) or ``ms per share`` (time = a + value * share of boundary tokens);
        `fixed` says what was held.
    """
    rows: list[dict[str, object]] = []
    if len(timings):
        kinds = timings.assign(
            kind=np.select([timings["click"] == 0, timings["click"] == 1], ["encode", "first"], "later")
        )
        rng = np.random.default_rng(seed)
        rows += _over(kinds, "resolution", "threads", rng)
        rows += _over(kinds, "threads", "resolution", rng)
        rows += _boundary(kinds, rng)
    if parts is not None and len(parts):
        rows += _parts(parts)
    return pd.DataFrame(rows, columns=COLUMNS)


def exponent(x: ArrayLike, y: ArrayLike) -> float:
    """Least-squares slope of log y over log x."""
    return float(_slopes(np.log(np.asarray(x, float)), np.log(np.asarray(y, float))))


def crossover(x: Sequence[float], first: Sequence[float], second: Sequence[float]) -> float:
    """Where two measured power laws cross, from their log-log lines; NaN where they are parallel.

    Args:
        x: sizes.
        first, second: times at those sizes.
    """
    logs = np.log(np.asarray(x, float))
    (s1, i1), (s2, i2) = (np.polyfit(logs, np.log(np.asarray(y, float)), 1) for y in (first, second))
    return math.nan if abs(s1 - s2) < 1e-9 else float(np.exp((i2 - i1) / (s1 - s2)))


def _over(timings: pd.DataFrame, axis: str, fixed: str, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    for (variant, kind, held), group in timings.groupby(["variant", "kind", fixed]):
        per_round = group.groupby([axis, "round"])["ms"].median()
        values = {float(x): per_round[x].to_numpy() for x in sorted(group[axis].unique())}
        if len(values) < 2:
            continue
        x = np.array(list(values))
        # The number of tokens grows with the square of the longest side.
        x = x**2 if axis == "resolution" else x
        best = exponent(x, [float(np.median(v)) for v in values.values()])
        drawn = _slopes(np.log(x), np.log(_resampled(rng, list(values.values()))))
        yield {
            "variant": variant, "kind": kind, "part": TOTAL, "against": "tokens" if axis == "resolution" else axis,
            "fixed": f"{fixed}={held}", "law": "exponent", "value": best, **_interval(drawn), "points": len(values),
            "values": " ".join(f"{k:g}" for k in values),
        }  # fmt: skip


def _boundary(timings: pd.DataFrame, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    known = timings[timings["boundary_share"].notna() & (timings["kind"] == "later")]
    for (variant, threads, resolution), group in known.groupby(["variant", "threads", "resolution"]):
        table = group.pivot_table(index=["image", "click"], columns="round", values="ms")
        share = group.groupby(["image", "click"])["boundary_share"].first().loc[table.index].to_numpy()
        if len(np.unique(share)) < 3:
            continue
        times = table.to_numpy()
        drawn = _slopes(share, _resampled(rng, [times])[:, 0])
        yield {
            "variant": variant, "kind": "later", "part": TOTAL, "against": "boundary share",
            "fixed": f"threads={threads} resolution={resolution}", "law": "ms per share",
            "value": float(_slopes(share, np.nanmedian(times, axis=1))), **_interval(drawn), "points": len(share),
            "values": f"{share.min():.2f}..{share.max():.2f}",
        }  # fmt: skip


def _parts(parts: pd.DataFrame) -> Iterator[dict[str, object]]:
    chosen = parts[(parts["size_bin"] == "all") & (parts["part"] != TOTAL) & (parts["median_ms"] > 0)]
    for (variant, kind, part, threads), group in chosen.groupby(["variant", "kind", "part", "threads"]):
        if group["resolution"].nunique() < 2:
            continue
        yield {
            "variant": variant, "kind": kind, "part": part, "against": "tokens", "fixed": f"threads={threads}",
            "law": "exponent", "value": exponent(group["resolution"].to_numpy() ** 2.0, group["median_ms"].to_numpy()),
            "low": math.nan, "high": math.nan, "points": len(group),
            "values": " ".join(f"{r:g}" for r in sorted(group["resolution"])),
        }  # fmt: skip


def _slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slopes over x (n,) of each row of y (…, n)."""
    centred = x - x.mean()
    return (y * centred).sum(-1) / (centred**2).sum()


def _resampled(rng: np.random.Generator, cells: Sequence[np.ndarray]) -> np.ndarray:
    """Medians of resampled rounds, (draws, cells, …); no draws for fewer than five rounds.

    Args:
        cells: (…, rounds) each; what shares an array shares the drawn rounds.
    """
    draws = _DRAWS if min(c.shape[-1] for c in cells) >= FEWEST else 0
    drawn = [c[..., rng.integers(0, c.shape[-1], (draws, c.shape[-1]))] for c in cells]
    return np.stack([np.moveaxis(np.nanmedian(d, axis=-1), -1, 0) for d in drawn], axis=1)


def _interval(drawn: np.ndarray) -> Mapping[str, float]:
    if not len(drawn):
        return {"low": math.nan, "high": math.nan}
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}
