"""How the numbers in a mask file become object, background and ignored pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.decode import Stored, header, read_image, read_stored
from harness.datasets.problems import SizeMismatch, Unreadable
from harness.errors import UserError

__all__ = ["Rule", "Value", "check_size", "differences", "read_image", "read_values"]

Value = int | float | tuple[int, int, int]
"""A stored value: a grey value or palette index, or a colour (red, green, blue)."""
_FEW_COLOURS = 16


@dataclass(frozen=True)
class Rule:
    """How the values of a mask file become object, background and ignored.

    Attributes:
        above: object where any channel is greater.
        ignore: value that is ignored, or None.
        equals: object exactly where the value is this one, instead of `above`.
        indices: palette files are read as their indices (True) or as colours (False). None: as indices where `ignore`,
            `equals` or `background` name a value, else as colours.
        background: object wherever the value is not this one, instead of `above`.
        stored: values are compared as the file holds them: 16 bits are not scaled to 8, 1, 2 and 4 bits not spread.
    """

    above: float = 0
    ignore: Value | None = None
    equals: Value | None = None
    indices: bool | None = False
    background: Value | None = None
    stored: bool = False

    @property
    def named(self) -> list[Value]:
        """Stored values that the rule names."""
        return [v for v in (self.equals, self.ignore, self.background) if v is not None]

    def record(self) -> dict[str, Any]:
        """Machine-readable form; part of the digest."""
        shown = {"above": self.above, "ignore": self.ignore, "equals": self.equals, "indices": bool(self.indices)}
        return shown if self.background is None else {**shown, "background": self.background}

    def apply(self, values: np.ndarray) -> np.ndarray:
        """(H, W) uint8: 1 object, 0 background, 255 ignore, from the values of `read_values`."""
        if self.equals is not None:
            object_ = _is(values, self.equals)
        elif self.background is not None:
            object_ = ~_is(values, self.background)
        else:
            object_ = _strongest(values) > self.above
        mask = object_.astype(np.uint8)
        if self.ignore is not None:
            mask[_is(values, self.ignore)] = 255
        return mask

    def __str__(self) -> str:
        object_ = f"above {self.above}"
        if self.equals is not None:
            object_ = f"value {self.equals}"
        elif self.background is not None:
            object_ = f"all but {self.background}"
        return f"object: {object_}" + (f", ignored: {self.ignore}" if self.ignore is not None else "")


def as_value(setting: str, value: Any) -> Value | None:
    """A stored value from a setting: a number, or a list of red, green and blue.

    Raises:
        UserError: anything else.
    """
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    if isinstance(value, Sequence) and len(value) == 3 and all(isinstance(v, int) for v in value):
        return int(value[0]), int(value[1]), int(value[2])
    raise UserError(f"dataset.{setting}={value!r}: give a value of the mask file, 15 or [0,215,255], or null.")


def _strongest(values: np.ndarray) -> np.ndarray:
    return values.max(axis=2) if values.ndim == 3 else values


def _is(values: np.ndarray, value: Value) -> np.ndarray:
    if isinstance(value, tuple):
        whole = values if values.ndim == 3 else values[:, :, None]
        return (whole == np.asarray(value)).all(axis=2)
    return _strongest(values) == value


def read_values(path: Path, indices: bool = False, rule: Rule | None = None) -> np.ndarray:
    """Values of a mask file, upright: (H, W), or (H, W, 3) for colours that differ between channels.

    Bilevel files give 0 and 255. Palette files give their colours, or with `indices` the indices. Where the opacity
    varies, it is the mask: transparent pixels give 0 (see `_visible`). 16 bits are scaled to 8 unless `indices`.

    Args:
        rule: decides in place of `indices`; with `rule.stored` the values are those of the file.

    Raises:
        MissingFile, Unreadable: the file is missing or cannot be decoded, or it has a palette and the rule does not
            say whether its values are indices or colours.
    """
    return values_of(read_stored(path), rule or Rule(indices=indices), path)


def values_of(stored: Stored, rule: Rule, path: Path) -> np.ndarray:
    """Values of a decoded mask file under a rule; raises Unreadable as `read_values`."""
    if stored.palette is not None:
        values = _of_palette(stored, stored.palette, rule, path)
    elif rule.stored:
        # White is 1 in a file of one bit, and 255 for everybody who looks at it.
        white = stored.bits == 1 and (rule.above >= 1 or 255 in (rule.equals, rule.background))
        values = _visible(stored.values * np.uint8(255) if white else stored.values, stored.opacity, rule)
    else:
        values = _visible(_eight_bits(stored, bool(rule.indices)), stored.opacity, rule)
    if values.ndim == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        return values
    return values.astype(np.uint8 if values.min(initial=0) >= 0 and values.max(initial=0) <= 255 else np.int64)


def _of_palette(stored: Stored, palette: np.ndarray, rule: Rule, path: Path) -> np.ndarray:
    colours = _visible(palette[stored.values], stored.opacity, rule)
    index = stored.values
    if stored.opacity is not None:
        kept = np.zeros(index.shape, bool) if rule.ignore is None else index == rule.ignore
        index = np.where((stored.opacity > 0) | kept, index, 0)
    if rule.indices is not None:
        return index if rule.indices else colours
    if any(isinstance(value, tuple) for value in rule.named) or not (rule.named or rule.above):
        return colours
    if (rule.apply(index) == rule.apply(colours)).all():
        return index
    # A grey palette that shows the named value, at an index that is another one: either can be meant.
    used = np.unique(stored.values)
    grey = not np.ptp(palette[used], axis=1).any()
    shown = any(_is(colours, v).any() and not (index == v).any() for v in rule.named)
    if not rule.named or (grey and shown):
        listed = ", ".join(f"{i} is {[int(c) for c in palette[i]]}" for i in used[:4])
        raise Unreadable(
            f"{path}: a palette file, whose values can be read as indices or as colours ({listed}), and {rule} differs "
            "between the two; say which: dataset.indices=true or dataset.indices=false."
        )
    return index


def _eight_bits(stored: Stored, indices: bool) -> np.ndarray:
    """Values brought to 0..255, as most tools show them; what is above 0 stays above 0."""
    values = stored.values
    if stored.bits in (1, 2, 4):
        return values * np.uint8(255 // (2**stored.bits - 1))
    if stored.bits == 0:
        return np.rint(values * (255 if values.max(initial=0) <= 1 else 1)).astype(np.int64)
    if not indices and values.dtype != np.uint8 and values.max(initial=0) > 255:
        return np.ceil(values.astype(np.float64) / 257)
    return values


def _visible(values: np.ndarray, opacity: np.ndarray | None, rule: Rule) -> np.ndarray:
    """Values with an opacity that varies taken into account: transparent pixels are no object.

    A cut-out (many colours) and a drawing in one colour say by their opacity what the object is, whatever the colours.
    A label map (a few colours) keeps its values where it can be seen, and is 0 where it cannot.
    """
    if opacity is None:
        return values
    seen = opacity > 0
    colours = values if values.ndim == 3 else values[:, :, None]
    shown = np.unique(colours[seen].astype(np.int64) @ (1 << 16 * np.arange(colours.shape[2])))
    flat = len(shown) <= 1
    if seen.all() and not flat:
        return values
    if len(shown) > _FEW_COLOURS or (flat and not (rule.named and shown.any())):
        return opacity
    return np.where(seen[:, :, None], colours, 0) if values.ndim == 3 else np.where(seen, values, 0)


def differences(path: Path, rule: Rule) -> str:
    """What of a mask file an earlier version of this harness read otherwise, in a few words; "" for most files.

    Part of the digest, so that what was measured on the other reading is not taken for this one.
    """
    about = header(path)
    if about is None:
        return ""
    reasons = [f"orientation {about.orientation}"] if about.orientation != 1 else []
    if about.transparent and read_stored(path).opacity is not None:
        reasons.append("opacity")
    if ";16" in about.raw and about.mode in ("RGB", "RGBA", "LA"):
        reasons.append("16 bits")
    odd = about.mode not in ("L", "RGB", "RGBA", "LA") or about.raw.startswith(("L;2", "L;4"))
    if rule.stored and odd and (rule.named or rule.above):
        reasons.append("stored values")
    return ", ".join(reasons)


def check_size(image: np.ndarray, mask: np.ndarray, image_path: Path, mask_path: Path) -> None:
    """Raise SizeMismatch unless mask and image have the same height and width."""
    if image.shape[:2] == mask.shape[:2]:
        return
    (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape[:2]
    hint = "one of the two is turned (EXIF orientation?): save both upright"
    if (height, width) != (mask_width, mask_height):
        hint = "export the mask at the image's size (nearest neighbour), or fetch the matching pair"
    raise SizeMismatch(
        f"{mask_path}: mask is {mask_width}x{mask_height}, image {image_path.name} is {width}x{height}; {hint}."
    )
