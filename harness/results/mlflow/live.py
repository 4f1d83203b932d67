"""Metrics while a long sweep runs: a process beside it reads the rows on disk and tells the server.

It is a process of its own, at the lowest priority, so that neither MLflow's weight nor a slow server touches the clicks
and their times. It starts only after the first interval, talks only to servers (http…), and says nothing: whatever
fails here is delivered at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.results import mlflow as tracking
from harness.results.mlflow import delivery, times
from harness.results.mlflow.contents import SweepFolder
from harness.results.mlflow.runs import Point, Runs

_DEFAULT_S = 60.0
_EXPERIMENT = "interactive-segmentation"


@contextlib.contextmanager
def following(out: Path, settings: Mapping[str, Any]) -> Iterator[None]:
    """Send live metrics of the sweep in `out` for as long as the body runs.

    Args:
        out: folder of the sweep, its config.yaml written.
        settings: `enabled`, `uri`, `experiment`, `timeout_s`, and `live_s`: seconds between two looks, null for none.

    Raises:
        UserError: `live_s` is no positive number.
    """
    every_s = _interval(settings)
    uri = tracking.tracking_uri(out, settings)
    if not settings.get("enabled", True) or every_s is None or not uri.startswith(("http://", "https://")):
        yield
        return
    follower = _Follower(out, {**settings, "uri": uri, "since": time.time(), "live_s": every_s})
    timer = threading.Timer(every_s, follower.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        follower.stop()


class _Follower:
    """The process beside the sweep."""

    def __init__(self, out: Path, settings: Mapping[str, Any]):
        self._command = [sys.executable, "-m", __name__, str(out)]
        self._settings = json.dumps(settings, default=str).encode() + b"\n"
        self._lock = threading.Lock()
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            if not self._stopped:
                # Its input ends when the sweep does, however that dies.
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                # Not among the arguments, which everybody on the machine can list: an address may hold a password.
                assert self._process.stdin is not None
                self._process.stdin.write(self._settings)
                self._process.stdin.flush()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None:
                # At any request: the delivery at the end completes what was begun.
                self._process.kill()
                self._process.wait()
                assert self._process.stdin is not None
                self._process.stdin.close()


def send(out: Path, settings: Mapping[str, Any], runs: Runs) -> None:
    """Tell the server how far the cells are that have grown since `settings["since"]` (seconds since 1970).

    Each cell's run gets, at the step "episodes finished": `live/mean_iou` and `live/mean_clicks` (means of the last
    click's IoU and of the number of clicks) and `live/failed`.
    """
    folder = SweepFolder(out)
    parent, total = None, 0
    for path in sorted((out / "cells").glob("*.jsonl")):
        if path.stat().st_mtime < float(settings.get("since", 0.0)):
            continue
        header, episodes = _read(path)
        clicked = [e["clicks"] for e in episodes.values() if not e.get("error") and e.get("clicks")]
        if not clicked:
            continue
        if parent is None:
            parent = delivery.parent_run(folder, str(settings["uri"]), runs)
            runs.reopen(parent)
        done = len(clicked)
        total += done
        run = delivery.open_cell(folder, header, parent, runs, times.span([times.of_rows(path)]))
        runs.add_points(
            run,
            [
                Point("live/mean_iou", sum(c[-1]["iou"] for c in clicked) / done, done),
                Point("live/mean_clicks", sum(map(len, clicked)) / done, done),
                Point("live/failed", float(sum(bool(e.get("error")) for e in episodes.values())), done),
            ],
        )
    if parent is not None:
        runs.add_points(parent, [Point("live/episodes", float(total), total)])


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Header and the last line of each sample; a line that is being written is left out."""
    header, *records = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    # Other lines say what the episodes after them were made under.
    return header, {record["sample"]: record for record in records if "sample" in record}


def _interval(settings: Mapping[str, Any]) -> float | None:
    value = settings.get("live_s", _DEFAULT_S)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < threading.TIMEOUT_MAX:
        raise UserError(f"tracking.live_s={value!r} is no interval. Give seconds, or null for no live metrics.")
    return float(value)


def _follow(out: Path, settings: Mapping[str, Any]) -> None:
    """The process beside the sweep; ends with it."""
    os.nice(19)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runs: Runs | None = None
    while True:
        with contextlib.suppress(Exception):  # the server may be away for a while
            if runs is None:
                runs = Runs(str(settings["uri"]), str(settings.get("experiment") or _EXPERIMENT), None)
            send(out, settings, runs)
        time.sleep(float(settings["live_s"]))


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    _follow(Path(sys.argv[1]), json.loads(sys.stdin.buffer.readline()))
