"""What a reproduction would fetch and how long it would take, without fetching or clicking."""

from __future__ import annotations

from collections.abc import Sequence

from harness.console import Console, markup
from harness.datasets.checkup import COMPLETE
from harness.errors import UserError
from harness.fetching import places
from harness.fetching.manifests import Catalogue, Entry
from harness.planning.config import Config, build, plain
from harness.planning.plan import Cell, DatasetPlan, Plan, Variant
from harness.reproducing import running
from harness.reproducing.rows import Row, weights_entry
from harness.reproducing.running import Options
from harness.results import dry_run
from harness.results.speeds import Speed, Speeds
from harness.text import duration

RATE = 10e6
"""Bytes a second of the download that the estimate assumes."""


def show(
    root: Config, rows: Sequence[Row], options: Options, catalogue: Catalogue, console: Console, probe: bool
) -> None:
    """Print both lists; times of clicks come from what this machine has stored, or from short episodes (`probe`)."""
    entries: dict[str, Entry] = {e.key: e for row in rows for e in running.needed(row, options, catalogue)}
    lacking = [e for e in entries.values() if places.installed(e.kind, e.name) is None]
    for entry in entries.values():
        console.print(f"  {markup(_line(entry))}", highlight=False, soft_wrap=True)
    by_program = [e for e in lacking if e.files]
    if by_program:
        known = sum(e.bytes or 0 for e in by_program)
        unknown = [e.name for e in by_program if e.bytes is None]
        rest = f", and {', '.join(unknown)} of unknown size" if unknown else ""
        console.print(
            f"to fetch: about {known / 1e6:,.0f} MB{markup(rest)}, about {duration(known / RATE)} at "
            f"{RATE / 1e6:.0f} MB/s: "
            f"{markup(running.fetch_command(by_program))}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for entry in (e for e in lacking if not e.files):
        console.print(f"by hand: {markup(entry.key)}: {markup(entry.by_hand)}", highlight=False, soft_wrap=True)
    times = _times(rows, options, _Seconds(root, options, catalogue, probe))
    for (label, group), (samples, seconds) in times.items():
        count = "all" if samples is None else str(samples)
        about = "time unknown" if seconds is None else f"about {duration(seconds)}"
        console.print(
            f"  {markup(label)} on {markup(group)}: {count} samples, {about}", highlight=False, soft_wrap=True
        )
    timed = [seconds for _, seconds in times.values() if seconds is not None]
    missing = len(times) - len(timed)
    clicks = f"clicks about {duration(sum(timed))}" if timed else "clicks: time unknown"
    unknown_ones = f", {missing} of {len(times)} cells are not known (dry_run=probe measures them)" if missing else ""
    console.print(f"{clicks}{unknown_ones}. Nothing was fetched, run or written.", highlight=False, soft_wrap=True)


def _times(
    rows: Sequence[Row], options: Options, seconds: _Seconds
) -> dict[tuple[str, str], tuple[int | None, float | None]]:
    """(variant, group) -> samples, and seconds of all their clicks."""
    times: dict[tuple[str, str], tuple[int | None, float | None]] = {}
    for group in running.groups(rows):
        for row in {row.label: row for row in group.rows}.values():
            samples, each = _samples(row, options), seconds.of(row)
            times[row.label, group.name] = (samples, None if samples is None or each is None else each * samples)
    return times


def _line(entry: Entry) -> str:
    size = f"about {entry.bytes / 1e6:,.0f} MB" if entry.bytes else "size not known"
    here = places.installed(entry.kind, entry.name)
    state = f"here, {here.path}" if here else "to fetch" if entry.files else "by hand"
    return f"{entry.key}: {size}, licence {entry.licence or 'not stated'}: {state}"


def _samples(row: Row, options: Options) -> int | None:
    whole = row.samples or COMPLETE.get(row.dataset)
    return whole if options.limit is None or whole is None else min(whole, options.limit)


class _Seconds:
    """Seconds of an episode of each variant: from the speeds that this machine has stored, or probed."""

    def __init__(self, root: Config, options: Options, catalogue: Catalogue, probe: bool):
        self.root, self.options, self.catalogue, self.probe = root, options, catalogue, probe
        self.speeds = Speeds(None)
        self._known: dict[tuple[str, str], float | None] = {}
        self._data: DatasetPlan | None = None

    def of(self, row: Row) -> float | None:
        """Seconds, or None where nobody knows, or where the variant cannot be built."""
        key = (row.label, row.protocol)
        if key not in self._known:
            try:
                self._known[key] = self._seconds(row)
            except (UserError, ImportError, MemoryError):
                self._known[key] = None
        return self._known[key]

    def _seconds(self, row: Row) -> float | None:
        if self._data is None:
            config = plain(self.root.load("dataset", "scenes", {"count": 1}))
            self._data = DatasetPlan("scenes", config, build(config, "dataset scenes"), "")
        settings = plain(self.root.load("variant", row.variant, dict(row.settings)))
        protocol = build(plain(self.root.load("protocol", row.protocol, dict(row.protocol_settings))), "protocol")
        entry = weights_entry(row, self.catalogue)
        weights = row.weights if entry is None else f"official:{entry.name}"
        variant = Variant(row.label, {**settings, "weights": weights} if "weights" in settings else settings)
        speed: Speed | None = self.speeds.of(Cell(variant, self._data, protocol))[0]
        if self.probe:  # speed does not depend on what the weights are, and they may not be here
            anything = Variant(row.label, {**settings, "weights": None} if "weights" in settings else settings)
            plan = Plan("probe", "", None, True, (anything,), (self._data,), protocol)
            speed = next(iter(dry_run.probe(plan).values()))
        return None if speed is None else speed.seconds(protocol.clicks)
