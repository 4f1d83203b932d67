"""What people clicked in the end: the rows of a file without those that were taken back."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.clicking.recorded import RecordedClick
from harness.clicking.recorded_rows import read_rows
from harness.errors import UserError, near_miss
from harness.text import visible


@dataclass(frozen=True)
class Recording:
    """What a file holds, ready for replay.

    Attributes:
        path: of the file.
        digest: of the clicks that can be replayed; 16 hexadecimal characters.
        episodes: sample -> user -> clicks numbered 1, 2, …; users in the order of the file.
        left_out: number of RClicks' clicks that belong to given wrong masks (`fp`, `fn`), which are no first clicks.
        datasets: names of data sets in the file, in order of appearance.
    """

    path: Path
    digest: str
    episodes: Mapping[str, Mapping[str, tuple[RecordedClick, ...]]] = field(repr=False)
    left_out: int = 0
    datasets: tuple[str, ...] = ()

    @property
    def users(self) -> tuple[str, ...]:
        """Everyone who clicked, in the order of the file."""
        return tuple(dict.fromkeys(user for of_users in self.episodes.values() for user in of_users))


def read(path: str | os.PathLike[str], dataset: str | None = None, device: str | None = None) -> Recording:
    """The clicks of a file.

    Args:
        dataset: rows whose `dataset` is another one are left out; None: all rows.
        device: only rows with this device; None: all rows.

    Raises:
        UserError: no such file, a column is missing, or a row is wrong; the message names file and line.
    """
    path = Path(path).expanduser()
    rows = read_rows(path)
    datasets = tuple(dict.fromkeys(row.dataset for row in rows.clicks if row.dataset))
    kept = [row for row in rows.clicks if dataset is None or row.dataset in ("", dataset)]
    if rows.clicks and not kept:
        raise UserError(
            f"{path}: no row is of data set {dataset!r}; it holds {', '.join(map(repr, datasets))}. "
            "Give the file of this data set, or name one of these."
        )
    if device is not None:
        devices = sorted({row.device for row in kept if row.device})
        kept = [row for row in kept if row.device == device]
        if not kept:
            raise UserError(f"{path}: no click was made with device {device!r}. {near_miss(device, devices)}")
    episodes: dict[str, dict[str, dict[int, RecordedClick]]] = {}
    for row in kept:
        episode = episodes.setdefault(row.sample, {}).setdefault(row.user, {})
        if row.action != "show":
            for number in [n for n in episode if n >= row.click]:
                del episode[number]
        if row.action == "click":
            if row.click != len(episode) + 1:
                raise UserError(
                    f"{path}: user {visible(row.user)!r} has click {row.click} on {visible(row.sample)!r} after "
                    f"click {len(episode)}. Clicks of an episode are numbered 1, 2, …"
                )
            episode[row.click] = row
    whole = {
        sample: {user: tuple(clicks.values()) for user, clicks in of_users.items() if clicks}
        for sample, of_users in episodes.items()
    }
    whole = {sample: of_users for sample, of_users in whole.items() if of_users}
    # Neither times nor devices change what is replayed.
    replayed = [
        (sample, user, [(c.y, c.x, c.positive, c.height, c.width) for c in clicks])
        for sample, of_users in sorted(whole.items())
        for user, clicks in of_users.items()
    ]
    digest = hashlib.sha256(repr(replayed).encode("utf-8", "backslashreplace")).hexdigest()[:16]
    return Recording(path, digest, whole, rows.left_out, datasets)
