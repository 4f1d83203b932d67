"""What a user clicked before the page was started again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.clicking import recording
from harness.clicking.recorded_rows import read_rows
from harness.errors import UserError
from harness.segmenter import Click


@dataclass(frozen=True)
class Earlier:
    """Standing clicks of one user by sample, and the samples that they saw, in order."""

    clicks: dict[str, tuple[Click, ...]]
    seen: tuple[str, ...]

    def last_of(self, names: Sequence[str]) -> int:
        """Index of the last of `names` that was seen; 0 where none was."""
        return max((i for i, name in enumerate(names) if name in self.seen), default=0)


def read(path: Path, user: str, dataset: str) -> Earlier:
    """Clicks of a user on a data set; none where there is no such file.

    Raises:
        UserError: the file holds something else than recorded clicks.
    """
    if not path.exists() or path.stat().st_size == 0:
        return Earlier({}, ())
    rows = [row for row in read_rows(path).clicks if row.user == user and row.dataset == dataset]
    if not rows:
        return Earlier({}, ())
    clicks = {}
    for sample, of_users in recording.read(path, dataset).episodes.items():
        if user in of_users:
            try:
                clicks[sample] = tuple(row.on((row.height, row.width)) for row in of_users[user])
            except UserError as error:
                raise UserError(f"{path}: {error}") from error
    return Earlier(clicks, tuple(dict.fromkeys(row.sample for row in rows)))
