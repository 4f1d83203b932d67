"""How far a measured number may lie from a printed one and still count as reproduced, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.reproducing.rows import Row

SHARE, DRAWN_SHARE = 0.02, 0.05
"""Share of the samples that may need a click more or less: on ties and last bits of floats, which differ between
versions and processors (docs/protocols.md: one model's clicks differed on 5 of 50 images with the same code); where
the annotator draws among equal places."""
DRAWN = ("inter2former", "jitter")
_IOU = 0.05
"""By how much the IoU of such a sample may differ."""


@dataclass(frozen=True)
class Tolerance:
    """Largest difference, in the row's unit, and its reason in words."""

    value: float
    reason: str


def of(row: Row, samples: int) -> Tolerance:
    """The tolerance of a row measured on so many samples.

    It is half a unit of the last printed decimal, and what so many samples contribute: a click each to a mean number of
    clicks, one each to a number of failures, 0.05 IoU each to a mean IoU.
    """
    if row.tolerance is not None:
        return Tolerance(row.tolerance, row.tolerance_reason)
    rounding = 0.5 * 10.0**-row.digits
    share = DRAWN_SHARE if row.protocol in DRAWN else SHARE
    count = max(1, round(share * samples))
    why = "drawn places" if row.protocol in DRAWN else "ties and last bits"
    who = f"{count} of {samples} samples"
    print_ = f"the print's {row.digits} decimals" if row.digits else "the print's rounding"
    if re.fullmatch(r"(ritm_)?nof\d+", row.metric):
        return Tolerance(rounding + count, f"{print_}, and {who} more or less ({why})")
    if re.fullmatch(r"noc\d+", row.metric):
        return Tolerance(rounding + count / samples, f"{print_}, and one click on {who} ({why})")
    scale = 100 if row.unit == "%" else 1
    return Tolerance(rounding + scale * _IOU * count / samples, f"{print_}, and {_IOU} IoU on {who} ({why})")
