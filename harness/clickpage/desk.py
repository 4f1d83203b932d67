"""The state of the page: which picture, which clicks, what was undone; and what every variant answers.

The state changes in the server's one thread. Models run in one other thread, one after the other, so that none slows
another down while it is timed. A click is on disk before a model sees it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.clicking.recorded import RecordedClick, Writer
from harness.clickpage import earlier, masks
from harness.clickpage.answers import AnswerRow, AnswerWriter
from harness.clickpage.pane import Answer, Clicks, Pane
from harness.clickpage.pictures import Picture, Pictures
from harness.clickpage.turns import Outdated, Rules, State, Turn, variant_of
from harness.errors import SampleError, UserError
from harness.results.files import Held, Lock
from harness.segmenter import Click


class Desk:
    """One person's clicks on a collection of pictures.

    Args:
        pictures: at least one.
        panes: the variants.
        folder: of the records; made if it is missing. Clicks that this user left there are taken up again.
        user: whose clicks they are.
        rules: what the person may see and do.

    Raises:
        UserError: the folder cannot be written, or the same user clicks there in another process.
    """

    def __init__(self, pictures: Pictures, panes: list[Pane], folder: Path, user: str, rules: Rules):
        self.pictures, self.panes, self.user, self.rules = pictures, panes, user, rules
        self.revision = 0
        self._lock = _lock(folder, user)
        self._kept = earlier.read(folder / "clicks.csv", user, pictures.label)
        self._clicks_file = Writer(folder / "clicks.csv")
        self._answers_file = AnswerWriter(folder / "answers.csv")
        self._models = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._turn = asyncio.Lock()
        self._index = self._kept.last_of(pictures.names) if rules.study else 0
        self._picture: Picture | None = None
        self._trouble = ""
        self._finished = False
        self._clicks: Clicks = ()
        self._undone: Clicks = ()
        self._times: tuple[float, ...] = ()
        self._appeared = time.time()

    async def look(self) -> Turn:
        """The state as it is, with all answers; opens the first picture."""
        async with self._turn:
            if self._picture is None and not self._trouble:
                await self._open(self._index)
            return self._answered()

    async def click(self, revision: int, click: Click, device: str) -> Turn:
        """Add a click.

        Args:
            revision: of the state that the person saw; so in all actions.
            device: pc or mobile.

        Raises:
            Outdated: another window acted meanwhile.
            UserError: it lies outside the image, the click limit is reached, or the disk is full: nothing changed.
        """
        async with self._turn:
            picture = self._current(revision)
            height, width = picture.size
            if not (0 <= click.y < height and 0 <= click.x < width):
                raise UserError(
                    f"row {click.y}, column {click.x} lies outside the image of {height} rows and {width} columns."
                )
            most = self.rules.most_clicks
            if most is not None and len(self._clicks) >= most:
                raise UserError(f"{most} clicks are the limit; undo one, or go to the next image.")
            await self._add(picture, click, device)
            self._undone = ()
            return self._changed()

    async def undo(self, revision: int, device: str, everything: bool = False) -> Turn:
        """Take the last click back, or all of them; `Outdated`, or UserError where there is none."""
        async with self._turn:
            picture = self._current(revision)
            if not self._clicks:
                raise UserError("there is no click to undo.")
            kept = 0 if everything else len(self._clicks) - 1
            await self._record(picture, "undo", kept + 1, None, device)
            self._undone = (*self._undone, *reversed(self._clicks[kept:]))
            self._clicks, self._times = self._clicks[:kept], self._times[:kept]
            turn = self._changed()
            for pane in self.panes:  # after the answers, which are known, so that the next click need not wait
                self._models.submit(pane.settle, picture, self._clicks)
            return turn

    async def redo(self, revision: int, device: str) -> Turn:
        """Bring the last undone click back; `Outdated`, or UserError where there is none."""
        async with self._turn:
            picture = self._current(revision)
            if not self._undone:
                raise UserError("there is no click to redo.")
            await self._add(picture, self._undone[-1], device)
            self._undone = self._undone[:-1]
            return self._changed()

    async def open(self, revision: int, index: int) -> Turn:
        """Go to another picture; in a study only to the next one, and behind the last one it is finished."""
        async with self._turn:
            self._check(revision)
            count = len(self.pictures.names)
            if index not in ((self._index + 1,) if self.rules.study else range(count)):
                raise UserError(f"there is no image {index + 1} to go to.")
            if index == count:
                self._finished = True
            else:
                await self._open(index)
            return self._changed()

    async def switch(self, revision: int, number: int, name: str, value: str) -> Turn:
        """Set a switch of a variant and answer anew; `Outdated`, or UserError where it cannot be set so."""
        async with self._turn:
            self._check(revision)
            if self.rules.study:
                raise UserError("switches stay as they are in a study.")
            if not 0 <= number < len(self.panes):
                raise UserError(f"there is no variant number {number}.")
            await asyncio.wrap_future(self._models.submit(self.panes[number].switch, name, value))
            return self._changed()

    def truth(self, revision: int) -> masks.Runs:
        """The true object as it is shown; `Outdated`, or UserError where it may not be seen or is not known."""
        picture = self._current(revision)
        if picture.truth is None or not self.rules.truth:
            raise UserError("the true outline is not shown here.")
        return masks.encode(masks.resized(picture.truth.sample.mask == 1, picture.shown_size))

    async def picture_file(self, index: int) -> bytes:
        """The current picture for the browser; Outdated if another one is current."""
        picture = self._picture
        if picture is None or index != self._index:
            raise Outdated()
        return await asyncio.get_running_loop().run_in_executor(None, lambda: picture.file)

    def close(self) -> None:
        """Wait for what runs, and give files and lock back."""
        self._models.shutdown(cancel_futures=True)
        self._disk.shutdown()
        self._clicks_file.close()
        self._answers_file.close()
        self._lock.close()

    def _check(self, revision: int) -> None:
        if revision != self.revision:
            raise Outdated()
        if self._finished:
            raise UserError("this study is finished. Thank you.")

    def _current(self, revision: int) -> Picture:
        self._check(revision)
        if self._picture is None:
            raise UserError(f"this image cannot be clicked: {self._trouble or 'it is not open yet'}")
        return self._picture

    async def _open(self, index: int) -> None:
        if self._picture is not None:
            self._kept.clicks[self._picture.name] = self._clicks
        name = self.pictures.names[index]
        self._index, self._picture, self._trouble = index, None, ""
        self._clicks, self._undone, self._times = (), (), ()
        try:
            picture = await asyncio.get_running_loop().run_in_executor(self._disk, self.pictures.load, name)
        except (SampleError, UserError) as error:
            self._trouble = str(error)
            return
        self._picture = picture
        height, width = picture.size
        kept = self._kept.clicks.get(name, ())
        if all(click.y < height and click.x < width for click in kept):
            self._clicks, self._times = kept, (math.nan,) * len(kept)
        await self._record(picture, "show", 0, None, "")
        self._appeared = time.time()

    async def _add(self, picture: Picture, click: Click, device: str) -> None:
        await self._record(picture, "click", len(self._clicks) + 1, click, device)
        self._clicks, self._times = (*self._clicks, click), (*self._times, time.time())

    async def _record(self, picture: Picture, action: str, number: int, click: Click | None, device: str) -> None:
        """Put a row on disk; UserError if that is not possible."""
        height, width = picture.size
        row = RecordedClick(
            image=picture.image,
            object=picture.object,
            click=number,
            y=float(click.y) if click else 0.0,
            x=float(click.x) if click else 0.0,
            positive=bool(click and click.positive),
            user=self.user,
            device=device,
            time=round(time.time(), 3),
            height=height,
            width=width,
            dataset=self.pictures.label,
            action=action,
        )
        await asyncio.get_running_loop().run_in_executor(self._disk, self._clicks_file.add, row)

    def _changed(self) -> Turn:
        self.revision += 1
        return self._answered()

    def _answered(self) -> Turn:
        """Give every variant its work, now, in order; what is known already costs nothing."""
        picture, clicks = self._picture, self._clicks
        work = []
        if picture is not None and not self._finished:
            for pane in self.panes:
                work.append(self._models.submit(pane.reply, picture, clicks, self._keeper(pane, picture)))
        return Turn(self._state(), tuple(work))

    def _state(self) -> State:
        picture, times = self._picture, (self._appeared, *self._times)
        height, width = picture.size if picture else (0, 0)
        shown_height, shown_width = picture.shown_size if picture else (0, 0)
        return State(
            revision=self.revision,
            index=self._index,
            count=len(self.pictures.names),
            name=self.pictures.names[self._index],
            height=height,
            width=width,
            shown_height=shown_height,
            shown_width=shown_width,
            has_truth=self.rules.truth and picture is not None and picture.truth is not None,
            clicks=self._clicks,
            seconds=tuple(map(_seconds, times, times[1:])),
            undone=len(self._undone),
            trouble=self._trouble,
            finished=self._finished,
            variants=tuple(map(variant_of, self.panes)),
            rules=self.rules,
            user=self.user,
        )

    def _keeper(self, pane: Pane, picture: Picture) -> Callable[[Clicks, Answer], None]:
        """A function that writes an answer down; it runs in the models' thread."""
        title = pane.title

        def keep(clicks: Clicks, answer: Answer) -> None:
            encoding = pane.open(picture)
            self._answers_file.add(
                AnswerRow(
                    image=picture.image,
                    object=picture.object,
                    click=len(clicks),
                    y=clicks[-1].y,
                    x=clicks[-1].x,
                    positive=clicks[-1].positive,
                    user=self.user,
                    variant=title,
                    iou=math.nan if answer.iou is None else answer.iou,
                    biou=math.nan if answer.biou is None else answer.biou,
                    encode_ms=encoding.encode_ms,
                    online_ms=answer.online_ms or 0.0,
                    mask=answer.digest,
                    dataset=self.pictures.label,
                )
            )

        return keep


def _seconds(before: float, after: float) -> float | None:
    return None if math.isnan(after - before) else round(after - before, 3)


def _lock(folder: Path, user: str) -> Lock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Lock(folder / f".{user}.lock")
    except Held as error:
        raise UserError(
            f"user {user!r} clicks in {folder} already, in another process. Go on there, or give another user=NAME."
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}. Choose another out=DIR.") from error
