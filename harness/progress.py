"""Progress with remaining time: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from harness.text import visible

_LINE_EVERY_S = 20.0
_D = TypeVar("_D", bound="_Drawn")


class _Drawn:
    """A context manager around rich's bar, where there is one."""

    _bar: Progress | None

    def __enter__(self: _D) -> _D:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._ended()

    def _ended(self) -> None:
        """Called after the bar is gone."""


class Bar(_Drawn):
    """Counts work items. Use as a context manager; `advance` after each item.

    Args:
        title: what is being done.
        total: number of items.
        console: where to draw; a console that is no terminal gets a plain line every 20 s.
    """

    def __init__(self, title: str, total: int, console: Console):
        self.title, self.total, self.console = visible(title), total, console
        self.count = 0
        self._note = ""
        self._bar: Progress | None = None
        self._started = self._last_line = time.monotonic()
        if console.is_terminal and total:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            left = (
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", style="dim", markup=False),
            )
            self._bar = Progress(*columns, *left, console=console, transient=False)
            self._task = self._bar.add_task(self.title, total=total, note="")

    def advance(self, note: str = "", items: int = 1) -> None:
        """One more item (or several) done; `note` says what it was."""
        self.count += items
        self._note = note = visible(note)
        if self._bar is not None:
            self._bar.update(self._task, advance=items, note=note)
        elif self.count < self.total and time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self._line()  # the line of the last item comes at the end

    def _line(self) -> None:
        spent = time.monotonic() - self._started
        left = spent / max(self.count, 1) * (self.total - self.count)
        self.console.print(
            f"{self.title}: {self.count}/{self.total}, {_clock(spent)} spent, about {_clock(left)} left {self._note}",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip

    def _ended(self) -> None:
        if self._bar is None and self.total and self.count:
            self._line()


class ByteBar(_Drawn):
    """Progress of a transfer in bytes, with its speed and the remaining time. A context manager.

    Args:
        title: what is being transferred.
        total: bytes as far as they are known beforehand; None: not known.
        console: where to draw; a console that is no terminal gets a plain line every 20 s.
    """

    def __init__(self, title: str, total: int | None, console: Console):
        self.title, self.total, self.console = visible(title), total, console
        self._bar: Progress | None = None
        self._first: int | None = None
        self._started = self._last_line = time.monotonic()
        if console.is_terminal:
            columns = (BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn(), TextColumn("left"))
            title_column = TextColumn("{task.description}", markup=False)
            self._bar = Progress(title_column, *columns, TimeRemainingColumn(), console=console, transient=True)
            self._task = self._bar.add_task(self.title, total=total)

    def update(self, done: int, total: int | None) -> None:
        """So many bytes are here, of so many (None: as said before). What was here before counts for no speed."""
        self.total = total if total is not None else self.total
        self._first = done if self._first is None else self._first
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total)
        elif time.monotonic() - self._last_line > _LINE_EVERY_S:
            self._last_line = time.monotonic()
            self.console.print(self._line(done), highlight=False, markup=False, soft_wrap=True)

    def _line(self, done: int) -> str:
        speed = (done - (self._first or 0)) / max(time.monotonic() - self._started, 1e-9)
        text = f"{self.title}: {done / 1e6:,.1f} MB, {speed / 1e6:,.2f} MB/s"
        if self.total and speed > 0:
            text += f", about {_clock(max(self.total - done, 0) / speed)} left of {self.total / 1e6:,.1f} MB"
        return text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
