"""Clicks of people, replayed: the annotator `recorded`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.clicking.annotators import Ritm
from harness.clicking.groups import Group
from harness.clicking.recorded import RecordedClick
from harness.clicking.recording import Recording, read
from harness.errors import SampleError, UserError, near_miss
from harness.sample import Sample
from harness.segmenter import Click
from harness.text import visible

_REPLAY = ("first", "all")


@dataclass(frozen=True)
class Recorded:
    """What people clicked, from a CSV (docs/protocols.md, "Recorded clicks"); then another annotator goes on.

    The episode of a sample is that of `user`, or of the first user in the file who clicked it; those of all others are
    groups.

    Args:
        file: the CSV.
        user: only this one; null: everyone.
        device: only clicks made with this device, for example pc or mobile; null: with any.
        replay: `first`: the first click of each user; `all`: all of them, whatever the model answers.
        later: annotator that clicks when the recorded clicks are used up.
        dataset: rows whose `dataset` is another one are left out; null: all rows count.
    """

    file: str | None = None
    user: str | None = None
    device: str | None = None
    replay: str = "first"
    later: Any = field(default_factory=Ritm)
    dataset: str | None = None
    name = "recorded"

    def __post_init__(self) -> None:
        if self.replay not in _REPLAY:
            raise UserError(f"protocol.annotator.replay={self.replay!r}. {near_miss(str(self.replay), _REPLAY)}")
        if self.file is not None:  # jobs may run in another folder
            object.__setattr__(self, "file", str(Path(self.file).expanduser().absolute()))
        if self.file is not None and self.user is not None and str(self.user) not in self.recording.users:
            raise UserError(
                f"protocol.annotator.user={self.user!r} clicked nothing in {self.file}. "
                f"{near_miss(str(self.user), self.recording.users, '')}"
            )

    @property
    def recording(self) -> Recording:
        """The file's clicks, by `device` where that is set.

        Raises:
            UserError: no file is given, or it is wrong.
        """
        if self.file is None:
            raise UserError("protocol.annotator.file is not set: give the CSV of recorded clicks.")
        path = Path(self.file)
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(f"recorded clicks {path}: {error.strerror or error}. Give a CSV file of clicks.") from error
        return _read(path, status.st_mtime_ns, status.st_size, self.dataset, self.device)

    @property
    def digest(self) -> str:
        """Of what is replayed; "" without a file."""
        return "" if self.file is None else self.recording.digest

    @property
    def label(self) -> str:
        """What every table says beside the protocol's name: which clicks, and a part of their digest."""
        who = "first clicks" if self.replay == "first" else "all clicks"
        whom = "" if self.user is None else f" of {visible(str(self.user))}"
        return f"{who}{whom}, {self.digest[:6]}" if self.file is not None else who + whom

    def record(self) -> dict[str, Any]:
        """Machine-readable form; the file counts by what it holds."""
        user = None if self.user is None else str(self.user)
        return {
            "name": self.name,
            "clicks": self.digest,
            "user": user,
            "device": self.device,
            "replay": self.replay,
            "later": self.later.record(),
        }

    def check(self, dataset: Any) -> None:
        """UserError if nobody clicked on any sample of this data set."""
        episodes = self.recording.episodes
        if not any(name in episodes for name in dataset.names):
            shown = ", ".join(repr(visible(name)) for name in list(episodes)[:3]) or "no clicks at all"
            first = ", ".join(repr(visible(name)) for name in list(dataset.names)[:3])
            raise UserError(
                f"{self.file}: clicks of another data set: none is on a sample of {dataset.name!r} ({first}, …); "
                f"the file has {shown}, …"
            )

    def start(self, sample: Sample) -> ReplaySession:
        """The episode of the one user, or of the first.

        Raises:
            SampleError: nobody clicked on this sample.
            UserError: a click lies outside the image.
        """
        users = self._users(sample)
        return self._session(sample, users[0])

    def groups(self, sample: Sample) -> Iterator[Group]:
        """The episodes of all other users."""
        for user in self._users(sample)[1:]:
            yield Group(f"user:{user}", self._session(sample, user))

    def first_clicks(self, sample: Sample) -> Iterator[Group]:
        """Every user's first click as an episode of one click."""
        for user in self._users(sample):
            yield Group(f"user:{user}", self._session(sample, user), clicks=1)

    def _users(self, sample: Sample) -> Sequence[str]:
        of_users = self.recording.episodes.get(sample.name, {})
        users = [user for user in of_users if self.user is None or user == str(self.user)]
        if not users:
            who = "nobody" if self.user is None else f"user {visible(str(self.user))!r}"
            raise SampleError(
                f"{who} clicked on this sample in {self.file}; leave it out (dataset.limit), or record it"
            )
        return users

    def _session(self, sample: Sample, user: str) -> ReplaySession:
        recorded: Sequence[RecordedClick] = self.recording.episodes[sample.name][user]
        clicks = [click.on(sample.mask.shape) for click in recorded[: 1 if self.replay == "first" else None]]
        return ReplaySession(clicks, self.later.start(sample))


class ReplaySession:
    """Given clicks in their order, then those of another annotator's session, which is told of each (`took`)."""

    def __init__(self, clicks: Sequence[Click], later: Any):
        self._clicks, self._later = list(clicks), later

    def click(self, prediction: np.ndarray) -> Click | None:
        """Next click for a (H, W) bool prediction; None when there is nothing to click."""
        if not self._clicks:
            click: Click | None = self._later.click(prediction)
            return click
        click = self._clicks.pop(0)
        if hasattr(self._later, "took"):
            self._later.took(click)
        return click


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int, size: int, dataset: str | None, device: str | None) -> Recording:
    """A file is read once per process, and again after it changed."""
    return read(path, dataset, device)
