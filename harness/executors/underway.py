"""What the sweep's own process is doing, in a file that outlives a crash: the next run knows where it died."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.clicking.records import BadRecord, read_as
from harness.results.damaged import parse


@dataclass(frozen=True)
class Death:
    """Where the run before this one ended without a word.

    Attributes:
        dataset, variant, sample: of the step; sample "": the variant was being built.
        reason: known already: such a step is not tried again.
        crashed: whether the process left a crash's last words (otherwise it may simply have been killed).
    """

    dataset: str
    variant: str
    sample: str
    reason: str = ""
    crashed: bool = False


class Underway:
    """The note of the running step (a `limits.Watch`).

    Args:
        out: folder of the sweep.

    Attributes:
        dataset: the data set that is being clicked through; set by the sweep.
        before: where the last run died, or None.
        last_words: file that a crash writes its stacks to.
    """

    def __init__(self, out: Path):
        path, words = out / ".underway", out / ".crash"
        crashed = False
        with contextlib.suppress(OSError):
            crashed = "Fatal Python error" in words.read_text(errors="replace")
        self.before: Death | None = None
        with contextlib.suppress(OSError, BadRecord):
            value = parse(path.read_bytes())
            self.before = read_as(Death, {**value, "crashed": crashed} if isinstance(value, dict) else value)
        self.dataset = ""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self.last_words = open(words, "w")  # noqa: SIM115 (open as long as the process may crash)
        self._enabled_before = faulthandler.is_enabled()
        faulthandler.enable(self.last_words)

    def begin(self, variant: str, sample: str) -> None:
        """Note a step."""
        self._write(Death(self.dataset, variant, sample))

    def end(self) -> None:
        """Nothing is under way."""
        os.ftruncate(self._fd, 0)

    def give_up(self, variant: str, sample: str, reason: str) -> None:
        """Note a step that the process cannot get out of, before it ends itself."""
        self._write(Death(self.dataset, variant, sample, reason))

    def close(self) -> None:
        """The process does nothing more that could crash."""
        faulthandler.disable()
        if self._enabled_before:
            with contextlib.suppress(OSError, ValueError, AttributeError):
                faulthandler.enable(sys.__stderr__)  # type: ignore[arg-type]
        os.close(self._fd)
        self.last_words.close()

    def _write(self, death: Death) -> None:
        data = json.dumps(asdict(death)).encode()
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))
