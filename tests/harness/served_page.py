"""`python -m harness.click` as a process of its own, and a client that speaks to it as the page does."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.clickpage import masks

FOLDER = Path(__file__).resolve().parent / "user_folder"
ROOT = FOLDER.parents[2]


def command(*settings: str) -> list[str]:
    return [sys.executable, "-u", "-m", "harness.click", "--config-dir", str(FOLDER), *settings]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


class Served:
    """A running page; `port` is its own."""

    def __init__(self, out: Path, *settings: str, dataset: str = "dataset=squares", variant: str = "variant=disc"):
        asked = [s for s in (dataset, variant) if s]
        self.process = subprocess.Popen(
            command(*asked, f"out={out}", "port=0", *settings),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(), cwd=ROOT,
        )  # fmt: skip
        self.out, said = out, ""
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", said)):
            line = self.process.stdout.readline()  # type: ignore[union-attr]
            assert line, f"the page did not start: {said}"
            said += line
        self.port = int(found[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()  # type: ignore[union-attr]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Client:
    """Sends what the page's script sends, and keeps the state and the last answer of each variant."""

    def __init__(self, served: Served):
        self.port = served.port
        self.state: dict[str, Any] = {}
        self.answers: dict[int, dict[str, Any]] = {}
        self.look()

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        origin = (
            {} if method == "GET" else {"Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        )
        given = {**origin, **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, data, {k: v for k, v in given.items() if v})
        return connection.getresponse()

    def ask(self, action: str, **body: Any) -> dict[str, Any]:
        """An action on the state that is known here; {"status", "error"} where it is refused."""
        defaults = {"device": "pc"} if action in ("click", "undo", "redo") else {}
        return self._read(
            self.request("POST", f"/api/{action}", {"revision": self.state["revision"], **defaults, **body})
        )

    def click(self, y: int, x: int, positive: bool = True) -> dict[str, Any]:
        return self.ask("click", y=y, x=x, positive=positive)

    def undo(self) -> dict[str, Any]:
        return self.ask("undo", everything=False)

    def look(self) -> dict[str, Any]:
        return self._read(self.request("GET", "/api/look"))

    def mask(self, variant: int = 0) -> np.ndarray:
        """The answer as a mask of the size that is shown."""
        runs = self.answers[variant]["mask"]
        size = self.state["shown_height"], self.state["shown_width"]
        return masks.decode(masks.Runs(*size, tuple(runs["box"]), tuple(runs["runs"])))

    def _read(self, response: http.client.HTTPResponse) -> dict[str, Any]:
        if response.status != 200:
            return {"status": response.status, **json.loads(response.read())}
        for line in response:
            value = json.loads(line)
            if "state" in value:
                self.state, self.answers = value["state"], {}
            else:
                self.answers[value["answer"]["variant"]] = value["answer"]
        return {"status": 200}


def refusal(*settings: str) -> str:
    """The one line that a command with exit code 2 prints."""
    ended = subprocess.run(command(*settings), capture_output=True, text=True, env=environment(), timeout=120)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    return " ".join(ended.stderr.split())


def disc(y: int, x: int, radius: int = 12, size: int = 64) -> np.ndarray:
    """What the toy model of `user_folder` answers to one click."""
    rows, columns = np.ogrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def wait_for(condition: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)
