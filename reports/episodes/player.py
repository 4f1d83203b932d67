"""What the page's episode player needs: one small photograph and, for each click, outlines as SVG paths."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np

from reports.episodes import pictures
from reports.episodes.replay import Episode, Step, Trace
from reports.plots.style import Plot

_QUALITY = 82
_STRIP, _STRIP_OF_MANY = 1600, 900
"""Pixels of a strip's longer side in the page, alone or beside one, and among several."""
_LONGEST_PATH = 8_000
"""Characters of one mask's outlines; a speckled mask of random weights would need megabytes."""


def data(episode: Episode) -> dict[str, Any]:
    """The player's data, as plain JSON: sizes and coordinates in pixels of the embedded picture."""
    image = pictures.smaller(episode.sample.image)
    scale = image.shape[1] / episode.sample.mask.shape[1]
    truth = episode.sample.mask
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "image": jpeg(image),
        "alt": f"Photograph {episode.sample.name} of {episode.dataset}",
        "truth": path(truth == 1, scale),
        "steps": [_step(step, truth, scale) for step in episode.steps],
    }


def _step(step: Step, truth: np.ndarray, scale: float) -> dict[str, Any]:
    record: dict[str, Any] = {
        "iou": round(step.iou * 100, 1) if np.isfinite(step.iou) else None,
        "mask": path(step.mask, scale),
        "missed": path((truth == 1) & ~step.mask, scale),
        "extra": path((truth == 0) & step.mask, scale),
    }
    if step.click is not None:
        record["click"] = [
            round(step.click.x * scale, 1),
            round(step.click.y * scale, 1),
            bool(step.click.positive),
        ]
    if step.trace is not None:
        record["trace"] = _trace(step.trace, scale)
    return record


def _trace(trace: Trace, scale: float) -> dict[str, Any]:
    boxes: dict[str, Any] = {}
    for name, box in (("dpe", trace.dpe_box), ("dlu", trace.dlu_box)):
        if box is not None:
            boxes[name] = [round(v * scale, 1) for v in box]
    boxes["side"] = round(trace.token * scale, 3)
    if trace.boundary is not None:
        boxes["boundary"] = grid(np.where(trace.boundary, 0, -1))
    if trace.experts is not None:
        boxes["experts"] = grid(trace.experts)
    return boxes


def grid(values: np.ndarray) -> list[str]:
    """One text a row of tokens, a character a token: a digit 0..7, or a dot for -1."""
    letters = np.array(list("01234567."))
    return ["".join(row) for row in letters[np.where(values < 0, 8, values % 8)]]


def path(mask: np.ndarray, scale: float) -> str:
    """A mask in the picture's pixels: an SVG path (even-odd) of its outlines, or a PNG where it has too many specks."""
    if not mask.any():
        return ""
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    # Doubled and smoothed a little, the outline of a mask follows the object's edge instead of its pixels' corners.
    way = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    fine = cv2.resize(mask.astype(np.float32), (size[0] * 2, size[1] * 2), interpolation=way)
    level = (fine >= min(0.5, float(fine.max()) * 0.99)).astype(np.uint8)
    contours, _ = cv2.findContours(level, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    text = "".join(_ring(ring) for ring in contours)
    return text if len(text) <= _LONGEST_PATH else bitmap(mask, size)


def _ring(contour: np.ndarray) -> str:
    points = cv2.approxPolyDP(contour, 1.0, True)[:, 0, :] / 2
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) + "z"


def bitmap(mask: np.ndarray, size: tuple[int, int]) -> str:
    """A data URI of the mask, white on black, at half the picture's size."""
    small = cv2.resize(
        mask.astype(np.uint8) * 255, (size[0] // 2 or 1, size[1] // 2 or 1), interpolation=cv2.INTER_AREA
    )
    _, buffer = cv2.imencode(".png", np.where(small > 127, 255, 0).astype(np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    return "data:image/png;base64," + base64.b64encode(buffer.tobytes()).decode()


def jpeg(image: np.ndarray) -> str:
    """A data URI of an RGB image."""
    _, buffer = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(buffer.tobytes()).decode()


def strip_image(plot: Plot, many: bool = False) -> str:
    """A strip as a data URI, small enough for a page with many of them; smaller among `many` variants."""
    picture = cv2.imdecode(np.frombuffer(plot.rendered("jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None  # it was just written
    return jpeg(pictures.smaller(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), _STRIP_OF_MANY if many else _STRIP))
