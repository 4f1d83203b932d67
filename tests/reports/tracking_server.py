"""A real MLflow server on loopback for the tests of the reports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_S = 120


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """`mlflow server` on a free port with its own SQLite and artifacts in `folder`; yields its address."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--backend-store-uri": f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    command = [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]
    uri = f"http://127.0.0.1:{port}"
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,  # its workers end with it
        )
        try:
            _wait(uri, process, folder / "log.txt")
            yield uri
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    limit = time.monotonic() + _START_S
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None and time.monotonic() < limit, log.read_text()
            time.sleep(0.2)
