"""Silhouettes of the composed scenes: each kind returns how much of every pixel the object covers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

_FINE = 3  # sub-pixels per pixel and axis: 10 levels of coverage
_SHIFT = 4  # fractional bits of OpenCV's polygon coordinates

Polygon = np.ndarray  # (n, 2) float x, y in a unit frame around the origin


@dataclass(frozen=True)
class Strokes:
    """A silhouette before it is placed: filled outlines, lines of a width, and holes, in a unit frame.

    Attributes:
        outlines: filled polygons.
        lines: polylines with their width (unit frame).
        holes: polygons cut out of it at the end.
        fixed_width: the widths stay when the silhouette is scaled to its share (wires), in pixels of a 1000 px side.
    """

    outlines: tuple[Polygon, ...] = ()
    lines: tuple[tuple[Polygon, float], ...] = ()
    holes: tuple[Polygon, ...] = ()
    fixed_width: bool = False


def coverage(kind: str, height: int, width: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw one silhouette; return (height, width) float32 coverage 0..1.

    Args:
        kind: a key of `KINDS`.
        share: wanted object share of the image, met as far as the kind and the border allow.
    """
    strokes = KINDS[kind](rng)
    angle = rng.uniform(0, 2 * np.pi)
    stretch = rng.uniform(0.75, 1.0)
    place = rng.uniform(-1, 1, 2)
    spread = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spread = spread * np.array([1.0, stretch])

    def draw(size: float, fine: float) -> np.ndarray:
        # Large objects stay near the middle, small ones go anywhere.
        free = np.maximum(0.5 - 0.9 * size / np.array([width, height]), 0.04)
        center = (0.5 + place * free) * [width, height]
        return _draw(strokes, spread * size, center, height, width, fine)

    size = _fit(lambda value: _share(draw(value, 0.2)), share, 0.75 * max(height, width))
    fine = draw(size, _FINE)
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _fit(measure: Callable[[float], float], share: float, largest: float) -> float:
    """Half extent in pixels whose share is the wanted one, by bisection (the share grows with the extent)."""
    low, high = 0.0, largest
    for _ in range(9):
        middle = (low + high) / 2
        if measure(middle) < share:
            low = middle
        else:
            high = middle
    return high


def _share(mask: np.ndarray) -> float:
    return float((mask > 127).mean())


def _draw(strokes: Strokes, spread: np.ndarray, center: np.ndarray, height: int, width: int, fine: float) -> np.ndarray:
    canvas = np.zeros((max(1, round(height * fine)), max(1, round(width * fine))), dtype=np.uint8)
    extent = float(np.sqrt(abs(np.linalg.det(spread))))
    unit = max(height, width) / 1000 if strokes.fixed_width else extent

    def points(polygon: Polygon) -> np.ndarray:
        at = (polygon @ spread.T + center) * fine - 0.5
        return np.round(at * 2**_SHIFT).astype(np.int32).reshape(-1, 1, 2)

    for outline in strokes.outlines:
        cv2.fillPoly(canvas, [points(outline)], 255, lineType=cv2.LINE_8, shift=_SHIFT)
    for line, thickness in strokes.lines:
        pixels = max(1, round(thickness * unit * fine))
        cv2.polylines(canvas, [points(line)], False, 255, pixels, lineType=cv2.LINE_8, shift=_SHIFT)
    for hole in strokes.holes:
        cv2.fillPoly(canvas, [points(hole)], 0, lineType=cv2.LINE_8, shift=_SHIFT)
    return canvas


def _angles(count: int) -> np.ndarray:
    return np.linspace(0, 2 * np.pi, count, endpoint=False)


def _polar(radius: np.ndarray) -> Polygon:
    angle = _angles(len(radius))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _wavy(rng: np.random.Generator, roughness: float, waves: int = 7) -> Polygon:
    """Return a closed curve of mean radius near 0.8: a circle whose radius is a random Fourier series."""
    angle = _angles(240)
    radius = np.ones_like(angle)
    for wave in range(2, waves + 1):
        radius += roughness / wave * rng.uniform(-1, 1) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return _polar(0.8 * np.clip(radius, 0.25, 1.5))


def _spline(corners: np.ndarray, count: int = 160) -> Polygon:
    """Return a smooth curve through the corners (Catmull-Rom)."""
    padded = np.concatenate([corners[:1], corners, corners[-1:]])
    at = np.linspace(0, len(corners) - 1, count)
    index = np.minimum(at.astype(int), len(corners) - 2)
    t = (at - index)[:, None]
    a, b, c, d = (padded[index + i] for i in range(4))
    return 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)


def _blob(rng: np.random.Generator) -> Strokes:
    return Strokes(outlines=(_wavy(rng, 0.9),))


def _creature(rng: np.random.Generator) -> Strokes:
    """Return a body with a few limbs that taper."""
    limbs = []
    for start in _angles(int(rng.integers(3, 6))) + rng.uniform(0, 2):
        bend = start + np.cumsum(np.concatenate([[0], rng.uniform(-0.35, 0.35, 3)]))
        spine = np.stack([np.cos(bend), np.sin(bend)], axis=1) * np.linspace(0.3, 1.15, 4)[:, None]
        spine = _spline(spine, 40)
        side = np.gradient(spine, axis=0)[:, ::-1] * [-1, 1]
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        thick = (np.linspace(0.2, 0.03, 40) * rng.uniform(0.7, 1.3))[:, None]
        limbs.append(np.concatenate([spine + side * thick, (spine - side * thick)[::-1]]))
    return Strokes(outlines=(_wavy(rng, 0.5) * 0.65, *limbs))


def _leaf(rng: np.random.Generator) -> Strokes:
    """Return a toothed, pinched outline with deep notches."""
    angle = _angles(720)
    lobes, teeth = int(rng.integers(3, 8)), int(rng.integers(20, 45))
    radius = 0.62 + 0.34 * np.cos(lobes * angle) * rng.uniform(0.6, 1) + 0.05 * np.cos(teeth * angle)
    return Strokes(outlines=(_polar(np.clip(radius, 0.12, None)),))


def _gear(rng: np.random.Generator) -> Strokes:
    """Return a wheel with square teeth and spokes between holes."""
    angle, teeth, spokes = _angles(960), int(rng.integers(9, 19)), int(rng.integers(3, 8))
    outline = _polar(0.85 + 0.13 * np.clip(6 * np.cos(teeth * angle), -1, 1))
    holes = []
    for start in _angles(spokes):
        arc = start + np.linspace(0.16, 2 * np.pi / spokes - 0.16, 24)
        inner, outer = rng.uniform(0.2, 0.26), 0.58
        rim = np.concatenate([np.full(24, outer), np.full(24, inner)])
        arc = np.concatenate([arc, arc[::-1]])
        holes.append(np.stack([rim * np.cos(arc), rim * np.sin(arc)], axis=1))
    return Strokes(outlines=(outline,), holes=tuple(holes))


def _pierced(rng: np.random.Generator) -> Strokes:
    """Return a blob with several round holes."""
    holes = []
    for _ in range(int(rng.integers(4, 9))):
        at, turn = 0.55 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        holes.append(_wavy(rng, 0.4) * rng.uniform(0.1, 0.24) + at * np.array([np.cos(turn), np.sin(turn)]))
    return Strokes(outlines=(_wavy(rng, 0.5),), holes=tuple(holes))


def _ring(rng: np.random.Generator) -> Strokes:
    outline = _wavy(rng, 0.45)
    return Strokes(outlines=(outline,), holes=(outline * rng.uniform(0.55, 0.8) + rng.uniform(-0.06, 0.06, 2),))


def _letters(rng: np.random.Generator) -> Strokes:
    """Return a few thick bars at angles, as a sign or a monogram."""
    bars = tuple(
        (_spline(rng.uniform(-0.85, 0.85, (int(rng.integers(2, 4)), 2)), 60), rng.uniform(0.14, 0.3))
        for _ in range(int(rng.integers(3, 6)))
    )
    return Strokes(lines=bars)


def _wires(rng: np.random.Generator) -> Strokes:
    """Return long thin curves of constant width, crossing each other."""
    lines = []
    for _ in range(int(rng.integers(2, 5))):
        ends = np.linspace(-1, 1, 5)
        corners = np.stack([ends, rng.uniform(-0.7, 0.7, 5)], axis=1)
        lines.append((_spline(corners), rng.uniform(3.5, 9)))
    return Strokes(lines=tuple(lines), fixed_width=True)


def _tree(rng: np.random.Generator) -> Strokes:
    """Return a branching silhouette down to twigs."""
    lines: list[tuple[Polygon, float]] = []

    def grow(at: np.ndarray, heading: float, length: float, thick: float, depth: int) -> None:
        bend = heading + np.cumsum(rng.uniform(-0.18, 0.18, 4))
        steps = np.stack([np.cos(bend), np.sin(bend)], axis=1) * length / 4
        path = np.concatenate([at[None], at + np.cumsum(steps, axis=0)])
        lines.append((_spline(path, 24), thick))
        if depth:
            for side in (-1, 1):
                turn = side * rng.uniform(0.3, 0.75)
                grow(path[-1], bend[-1] + turn, length * rng.uniform(0.66, 0.86), thick * 0.66, depth - 1)

    grow(np.array([0.0, 1.0]), -np.pi / 2, 0.55, 0.11, 6)
    return Strokes(lines=tuple(lines))


def _lattice(rng: np.random.Generator) -> Strokes:
    """Return a fence in perspective: two families of thin bars and a frame."""
    count, lean, far = int(rng.integers(5, 11)), rng.uniform(-0.25, 0.25), rng.uniform(0.6, 1)
    thick = rng.uniform(0.025, 0.06)

    def place(u: float, v: float) -> tuple[float, float]:
        scale = far + (1 - far) * (v + 1) / 2
        return u * scale + lean * v, v * 0.8

    lines = []
    for u in np.linspace(-0.95, 0.95, count):
        lines.append((np.array([place(u, -1), place(u, 1)]), thick))
        lines.append((np.array([place(-0.95, u), place(0.95, u)]), thick))
    return Strokes(lines=tuple(lines))


def _flock(rng: np.random.Generator) -> Strokes:
    """Return several separate pieces that belong to one object."""
    pieces = []
    for start in _angles(int(rng.integers(3, 7))):
        away = rng.uniform(0.45, 0.85)
        pieces.append(_wavy(rng, 0.8) * rng.uniform(0.18, 0.42) + away * np.array([np.cos(start), np.sin(start)]))
    return Strokes(outlines=tuple(pieces))


KINDS: dict[str, Callable[[np.random.Generator], Strokes]] = {
    "blob": _blob,
    "wires": _wires,
    "creature": _creature,
    "pierced": _pierced,
    "lattice": _lattice,
    "leaf": _leaf,
    "tree": _tree,
    "ring": _ring,
    "gear": _gear,
    "flock": _flock,
    "letters": _letters,
}
# Kinds that cannot fill more than this share of an image.
THIN = {
    "wires": 0.06,
    "lattice": 0.16,
    "tree": 0.14,
    "letters": 0.3,
    "ring": 0.25,
    "flock": 0.25,
    "gear": 0.35,
}
