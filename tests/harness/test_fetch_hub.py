"""`hf:OWNER/NAME` and `hub:` addresses against a hub on loopback that answers as the public one does."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_server import File, Handler, Site, serve, status

from harness.errors import UserError
from harness.fetching import hub
from harness.fetching import weights as checkpoints
from harness.planning.disk import NotBuilt, Trust

SHA = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"\x80" + bytes(range(256)) * 40


def publish(site: Site, repo: str, files: dict[str, bytes], kind: str = "models") -> None:
    """The answers of the Hub for a repository: its listing, and its files under their commit."""
    listing = {
        "id": repo, "sha": SHA, "private": False, "gated": False, "disabled": False, "tags": [],
        "downloads": 0, "likes": 0,
        "siblings": [
            {"rfilename": n, "size": len(c), "blobId": "0" * 40,
             "lfs": {"sha256": hashlib.sha256(c).hexdigest(), "size": len(c), "pointerSize": 1}}
            for n, c in files.items()
        ],
    }  # fmt: skip
    text = json.dumps(listing).encode()
    answer = File(text, kind="application/json")
    for revision in ("", "/revision/main", f"/revision/{SHA}"):
        site.pages[f"/api/{kind}/{repo}{revision}"] = answer
    prefix = "" if kind == "models" else f"/{kind}"
    for name, content in files.items():
        for revision in ("main", SHA):
            site.pages[f"{prefix}/{repo}/resolve/{revision}/{name}"] = _HubFile(content)


class _HubFile(File):
    def __call__(self, handler: Handler) -> None:
        send = handler.begin
        handler.begin = lambda code, **headers: send(code, X_Repo_Commit=SHA, **headers)  # type: ignore[method-assign]
        super().__call__(handler)


@pytest.fixture(scope="module")
def site():
    site, running = serve()
    publish(
        site,
        "lab/model",
        {"model.safetensors": WEIGHTS, "config.json": b"{}", "pytorch_model.bin": b"other", "README.md": b"x"},
    )
    publish(site, "lab/files", {"a.pth": WEIGHTS, "b.pth": WEIGHTS[::-1]})
    publish(site, "lab/text", {"README.md": b"x"})
    for revision in ("", "/revision/main"):
        site.pages[f"/api/models/lab/none{revision}"] = status(404, X_Error_Code="RepoNotFound")
        site.pages[f"/api/models/lab/gated{revision}"] = status(403, X_Error_Code="GatedRepo")
    yield site
    running.shutdown()


def python(site: Site, folder: Path, program: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, since huggingface_hub reads its settings when it is imported."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and "proxy" not in k.lower()}
    env |= {"HF_ENDPOINT": site.address, "HF_HOME": str(folder / "hf"), "IS_BENCH_DATA": str(folder / "data")}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **more}
    return subprocess.run(
        [sys.executable, "-c", program], env=env, cwd=folder, capture_output=True, text=True, timeout=120
    )


PIN = """
import sys
from harness.errors import UserError
from harness.fetching import weights
try:
    for text in {texts!r}:
        name = weights.settled(text, "x", {{}}, None)
        print(name, weights.path_of(name))
except UserError as error:
    print("error:", error)
"""


def test_weights_of_the_hub_come_into_its_cache_once_and_keep_their_commit(site: Site, tmp_path: Path):
    site.requests.clear()
    done = python(site, tmp_path, PIN.format(texts=["hf:lab/model", "hf:lab/model@main", "hf:lab/files:b.pth"]))
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == [f"hf:lab/model@{SHA}"] * 2 + [f"hf:lab/files@{SHA}:b.pth"], done.stderr
    folder = Path(lines[0][1])
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]  # and no second form
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS and folder.is_relative_to(tmp_path / "hf")
    assert Path(lines[2][1]).read_bytes() == WEIGHTS[::-1]
    # Pinned and here: no request at all; offline as well.
    site.requests.clear()
    done = python(site, tmp_path, PIN.format(texts=[f"hf:lab/model@{SHA}"]))
    assert done.stdout.split()[0] == f"hf:lab/model@{SHA}" and not site.requests, done.stdout
    done = python(site, tmp_path, PIN.format(texts=["hf:lab/model", "hf:lab/files:b.pth"]), HF_HUB_OFFLINE="1")
    assert f"hf:lab/model@{SHA}" in done.stdout and f"hf:lab/files@{SHA}:b.pth" in done.stdout and not site.requests


@pytest.mark.parametrize(
    "text, says, env",
    [
        ("hf:lab/none", "no such repository", {}),
        ("hf:lab/gated", "no such repository for you|HF_TOKEN", {}),
        ("hf:lab/text", "no weight file in that repository", {}),
        ("hf:lab/model:nosuch.pth", "has no file 'nosuch.pth'; it has model.safetensors", {}),
        ("hf:lab/model", "not in huggingface_hub's cache, and HF_HUB_OFFLINE forbids", {"HF_HUB_OFFLINE": "1"}),
        ("hf:lab/model", "the Hub does not answer", {"HF_ENDPOINT": "http://127.0.0.1:9"}),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(site: Site, tmp_path: Path, text: str, says: str, env: dict[str, str]):
    import re

    done = python(site, tmp_path, PIN.format(texts=[text]), **env)
    lines = done.stdout.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error:") and re.search(says, lines[0]), (
        done.stdout + done.stderr[-2000:]
    )


@pytest.mark.parametrize(
    "text", ["hf:", "hf:name", "hf:a/b/c", "hf:../x", "hf:a/b@", "hf:a/b:../../x", "hf:a b/c", "hf:a/b@x y"]
)
def test_what_is_no_repository(text: str):
    with pytest.raises(UserError, match="write hf:OWNER/NAME"):
        hub.reference(text)


def test_a_manifest_names_files_of_a_repository(site: Site, tmp_path: Path):
    """They are listed when they are fetched; the Hub's own SHA-256 is required."""
    mine = tmp_path / "mine" / "fetch"
    mine.mkdir(parents=True)
    (mine / "m.yaml").write_text(
        "kind: weights\nname: m\nuse: '.'\nfiles: [{name: repo, urls: ['hub:lab/model/model.safetensors,config.json']}]"
    )
    program = "import sys; sys.argv[1:] = ['--config-dir', 'mine', 'weights=m']; from harness.fetch import main; main()"
    done = python(site, tmp_path, program)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "weights" / "m" / "model.safetensors").read_bytes() == WEIGHTS
    site.pages[f"/lab/model/resolve/{SHA}/model.safetensors"] = File(WEIGHTS[::-1])
    done = python(site, tmp_path, program.replace("'weights=m'", "'weights=m', 'again=true'"))
    assert done.returncode == 1 and "the Hub's own record" in done.stderr and "Traceback" not in done.stderr
    publish(site, "lab/model", {"model.safetensors": WEIGHTS, "config.json": b"{}", "pytorch_model.bin": b"other"})


@pytest.mark.parametrize("weights", [f"hf:lab/model@{SHA}", "hf:lab/model", "official:sam_vit_b", "official"])
def test_a_run_from_disk_fetches_nothing(weights: str, tmp_path: Path, monkeypatch):
    """The configuration of a stranger's run names weights; they are looked up here, and nobody is asked."""
    import socket

    monkeypatch.setenv("IS_BENCH_DATA", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("the network was used"))
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("the network was used"))
    with pytest.raises(NotBuilt, match="not built"):
        Trust().build({"_target_": "baselines.grabcut.OpenCVGrabCut", "weights": weights})


def test_names_of_weights_are_told_from_paths():
    names = ["official", "official:x", "hf:a/b"]
    assert all(map(checkpoints.is_name, names))
    assert not any(
        map(checkpoints.is_name, [None, "default", "official.pth", "./official", "/x/hf:a", "weights.safetensors"])
    )
