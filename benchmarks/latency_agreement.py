"""Do two runs of the same latency measurement agree? `python -m benchmarks.latency_agreement RUN_A RUN_B`

Compares the two latency.csv row by row: the intervals of the ratio to the base variant should overlap, whatever the
machine did to the absolute times. Prints the share that does, and the rows that do not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from harness.results.csv_tables import read_csv

KEYS = ["variant", "threads", "resolution", "kind", "size_bin"]


def agreement(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rows that both runs measured, with `overlap` of the ratio's intervals and the change of ratio and median.

    The base variant's own rows are left out: their ratio is 1 by definition.
    """
    both = first[first["median_ms"].notna()].merge(second[second["median_ms"].notna()], on=KEYS, suffixes=("_a", "_b"))
    both = both[both["variant"] != both["base_a"]].copy()
    both["overlap"] = (both["ratio_low_a"] <= both["ratio_high_b"]) & (both["ratio_low_b"] <= both["ratio_high_a"])
    both["finite"] = both[["ratio_high_a", "ratio_high_b"]].map(lambda x: x < float("inf")).all(axis=1)
    both["ratio_change"] = both["ratio_b"] / both["ratio_a"] - 1
    both["median_change"] = both["median_ms_b"] / both["median_ms_a"] - 1
    return both


def main() -> None:
    """Print the agreement of two runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="folder of a sweep")
    folders = parser.parse_args().runs
    both = agreement(*(read_csv(folder / "latency.csv") for folder in folders))
    finite = both[both["finite"]]
    print(f"rows measured twice: {len(both)}, with finite intervals: {len(finite)}")
    if len(finite):
        print(f"intervals of the ratio overlap: {finite['overlap'].mean():.1%}")
        print(f"median absolute change of the ratio: {finite['ratio_change'].abs().median():.1%}")
        print(f"median absolute change of the time: {finite['median_change'].abs().median():.1%}")
        apart = finite.loc[~finite["overlap"], [*KEYS, "ratio_a", "ratio_b"]]
        print(apart.to_string(index=False) if len(apart) else "no row disagrees")


if __name__ == "__main__":
    main()
