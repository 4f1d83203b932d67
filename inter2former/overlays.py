"""What the parts did at a click, as boxes and cells in pixels of the image, for pages that draw them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from inter2former.inputs import Frame
from inter2former.label_tokens import TOKEN

Overlay = tuple[float, float, float, float] | tuple[np.ndarray, float]
"""A box (left, top, right, bottom), or cells: (h, w) int, -1 where none, with the side of a cell; image pixels."""


def overlays(trace: Mapping[str, Any], frame: Frame) -> dict[str, Overlay]:
    """Return the overlays of a `Session.trace` by name; empty where nothing was traced.

    Cells of one value are of one kind: all boundary tokens, the tokens of one expert. The network's input may be padded
    beyond the image, so boxes and cells may be, too.
    """
    shown: dict[str, Overlay] = {}
    for name, key in (("DPE box", "dpe_box"), ("DLU box", "dlu_box")):
        if trace.get(key) is not None:
            left, top, right, bottom = trace[key]
            (y0, x0), (y1, x1) = frame.to_image(top, left), frame.to_image(bottom, right)
            shown[name] = float(x0), float(y0), float(x1), float(y1)
    side, _ = frame.to_image(TOKEN, TOKEN)
    if trace.get("boundary") is not None:
        shown["Boundary tokens"] = np.where(trace["boundary"], 0, -1), float(side)
    if trace.get("experts") is not None:
        shown["Experts"] = np.asarray(trace["experts"]), float(side)
    return shown
