"""Published rows: what somebody measured, with which weights, on which data, under which protocol; from YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError, near_miss
from harness.fetching import weights as checkpoints
from harness.fetching.manifests import Catalogue, Entry
from harness.planning.config import Config

GROUP = "reproduction"
_FIELDS = ("digits", "unit", "samples", "tolerance", "tolerance_reason", "source", "data_digest", "weights_sha256")
_MAPPINGS = ("settings", "dataset_settings", "protocol_settings", "published", "versions")
_ROW = ("variant", "dataset", "expected", "protocol", "weights", *_MAPPINGS, *_FIELDS)
_FILE = ("title", "defaults", "rows")
_MOST = 1 << 20


@dataclass(frozen=True, eq=False)
class Row:
    """One published number.

    Attributes:
        variant, settings: file of `variant/`, and what is set otherwise.
        dataset, dataset_settings, protocol, protocol_settings: likewise.
        metric: name in summary.csv, `noc90`.
        value: as published, in `unit`.
        digits: decimals of the print.
        unit: "" (clicks, samples) or "%".
        weights: official | official:NAME | hf:… | a path | null (a variant without weights).
        samples: how many the published mean is over; None: as many as the data set has.
        published: settings of the variant as they were when the number was made (`{target_size: 400, flip: true}`).
        tolerance, tolerance_reason: in the place of the rule (`tolerance.py`).
        data_digest, weights_sha256, versions: what the number is known to have been made with.
        source: where it was read.
    """

    variant: str
    dataset: str
    metric: str
    value: float
    protocol: str = "ritm"
    weights: str | None = checkpoints.OFFICIAL
    settings: Mapping[str, Any] = field(default_factory=dict)
    dataset_settings: Mapping[str, Any] = field(default_factory=dict)
    protocol_settings: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    digits: int = 2
    unit: str = ""
    samples: int | None = None
    tolerance: float | None = None
    tolerance_reason: str = ""
    data_digest: str = ""
    weights_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def label(self) -> str:
        """Name of the variant in the sweep's tables; settings that are not the file's stand in it."""
        own = {**self.settings, **({} if self.weights in (None, checkpoints.OFFICIAL) else {"weights": self.weights})}
        return f"{self.variant} {','.join(f'{k}={v}' for k, v in sorted(own.items()))}".strip()

    @property
    def shown(self) -> str:
        """The value as it was printed."""
        return f"{self.value:.{self.digits}f}{self.unit and f' {self.unit}'}"

    def measured(self, value: float) -> float:
        """A value of summary.csv in the published unit."""
        return value * 100 if self.unit == "%" else value


def load(root: Config, name: str) -> list[Row]:
    """The rows of a packaged file (`sweeps/reproduction/NAME.yaml`), of the user's folder, or of a path.

    Raises:
        UserError: no such file, or one that is no rows file; the message names the row and the key.
    """
    options = root.options(GROUP)
    if name in options:
        own = None if root.config_dir is None else root.config_dir / GROUP / f"{name}.yaml"
        packaged = resources.files("sweeps") / GROUP / f"{name}.yaml"
        return parse((own if own is not None and own.is_file() else packaged).read_text(encoding="utf-8"), name, root)
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"rows={name}: no such file, and no reproduction of that name. {near_miss(name, options)}")
    if path.stat().st_size > _MOST:
        raise UserError(f"rows={name}: {path.stat().st_size:,} bytes; at most {_MOST:,} are read.")
    try:
        return parse(path.read_text(encoding="utf-8"), name, root)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"rows={name}: {error}; write it as UTF-8 text.") from error


def parse(text: str, where: str, root: Config) -> list[Row]:
    """Rows from YAML text.

    Raises:
        UserError: as `load`.
    """
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"rows={where}: no YAML ({' '.join(str(error).split())[:200]}).") from error
    _keys(values, _FILE, f"rows={where}")
    defaults = values.get("defaults") or {}
    _keys(defaults, _ROW, f"rows={where}: defaults")
    listed = values.get("rows")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"rows={where}: rows: a list of {{variant: NAME, dataset: NAME, expected: {{noc90: 1.50}}}}.")
    rows: list[Row] = []
    for number, entry in enumerate(listed, 1):
        here = f"rows={where}: row {number}"
        _keys(entry, _ROW, here)
        rows += _rows({**defaults, **entry}, here, root)
    twice = [row for i, row in enumerate(rows) if _identity(row) in map(_identity, rows[:i])]
    if twice:
        raise UserError(f"rows={where}: {twice[0].label}, {twice[0].dataset}, {twice[0].metric} stands there twice.")
    return rows


def _identity(row: Row) -> tuple[str, ...]:
    return (row.label, row.dataset, str(row.dataset_settings), row.protocol, str(row.protocol_settings), row.metric)


def _rows(values: Mapping[str, Any], where: str, root: Config) -> list[Row]:
    expected = values.get("expected")
    if not isinstance(expected, dict) or not expected:
        raise UserError(f"{where}: expected: the published numbers, for example {{noc85: 1.46, noc90: 1.56}}.")
    for key, group in (("variant", "variant"), ("dataset", "dataset"), ("protocol", "protocol")):
        value = values.get(key, "ritm" if key == "protocol" else None)
        if not isinstance(value, str):
            raise UserError(f"{where}: {key} {value!r}: a name ({', '.join(root.options(group))}).")
        root.require(group, value)
    mappings: dict[str, Any] = {k: values.get(k) or {} for k in _MAPPINGS}
    for key, value in mappings.items():
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} {value!r}: names and values, for example {{target_size: 600}}.")
    mappings["versions"] = {str(k): str(v) for k, v in mappings["versions"].items()}
    weights = values.get("weights", checkpoints.OFFICIAL)
    if weights is not None and not isinstance(weights, str):
        raise UserError(f"{where}: weights {weights!r}: official, hf:OWNER/NAME, a file, or null.")
    if values.get("unit", "") not in ("", "%"):
        raise UserError(f"{where}: unit {values['unit']!r}: % or nothing.")
    tolerance = values.get("tolerance")
    if tolerance is not None and not (_number(tolerance) and tolerance >= 0):
        raise UserError(f"{where}: tolerance {tolerance!r}: a number from 0, in the unit of the value.")
    if tolerance is not None and not values.get("tolerance_reason"):
        raise UserError(f"{where}: tolerance {tolerance!r} needs its tolerance_reason.")
    texts: dict[str, Any] = {
        k: str(values.get(k) or "") for k in ("tolerance_reason", "source", "data_digest", "weights_sha256")
    }
    digits, samples = values.get("digits", 2), values.get("samples")
    for key, value, least in (("digits", digits, 0), ("samples", samples, 1)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise UserError(f"{where}: {key} {value!r}: a whole number from {least}.")
    rows = []
    for metric, value in expected.items():
        if not _number(value):
            raise UserError(f"{where}: expected {metric} {value!r}: a number.")
        rows.append(
            Row(
                variant=values["variant"],
                dataset=values["dataset"],
                metric=str(metric),
                value=float(value),
                protocol=values.get("protocol", "ritm"),
                weights=weights,
                digits=int(digits),
                unit=values.get("unit", ""),
                samples=samples,
                tolerance=tolerance,
                **mappings,
                **texts,
            )
        )
    return rows


def entries(rows: Sequence[Row], catalogue: Catalogue) -> list[Entry]:
    """What has to be fetched for the rows, each entry once; what no manifest knows is left out."""
    by_key: dict[str, Entry] = {}
    for row in rows:
        data = catalogue.of("data").get(row.dataset)
        weights = weights_entry(row, catalogue)
        for entry in (data if "root" not in row.dataset_settings else None, weights):
            if entry is not None:
                by_key[entry.key] = entry
    return list(by_key.values())


def weights_entry(row: Row, catalogue: Catalogue) -> Entry | None:
    """The checkpoint of a row; None where it names a path, the Hub, or none."""
    if row.weights == checkpoints.OFFICIAL:
        return catalogue.official(row.variant)
    if row.weights is not None and row.weights.startswith(f"{checkpoints.OFFICIAL}:"):
        return catalogue.get("weights", row.weights.partition(":")[2])
    return None


def _keys(values: Any, allowed: Sequence[str], where: str) -> None:
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected keys and values, found {type(values).__name__}.")
    for key in values:
        if key not in allowed:
            raise UserError(
                f"{where}: unknown key {str(key)!r}. {near_miss(str(key), allowed, 'docs/fetch.md lists all.')}"
            )


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
