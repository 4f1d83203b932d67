"""The Hugging Face Hub: what a repository holds, and `variant.weights=hf:OWNER/NAME[@REVISION][:FILE]`.

Files of manifests are listed here and transferred like any other; `hf:` goes through huggingface_hub and its cache.
`HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are huggingface_hub's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.fetching import network
from harness.fetching.manifests import Download, Entry, matches
from harness.text import printable

PREFIX = "hf:"
_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+?))?(:(?P<file>[^:@]+))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_URL = re.compile(
    r"hub(?P<data>-dataset)?:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?/(?P<pattern>.+)", re.ASCII
)
_CHOICES = (
    ("model.safetensors", "*.json"),
    ("*.safetensors", "*.json"),
    ("pytorch_model.bin", "*.json"),
    ("*.pth",),
    ("*.pt",),
    ("*.bin",),
)
"""What is taken of a model's repository: the first of these that is there, with its settings."""
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Reference:
    """`hf:OWNER/NAME@REVISION:FILE` in parts."""

    repo: str
    revision: str | None = None
    file: str | None = None

    @property
    def text(self) -> str:
        """As it is written."""
        return (
            f"{PREFIX}{self.repo}{f'@{self.revision}' if self.revision else ''}{f':{self.file}' if self.file else ''}"
        )

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


def reference(text: str) -> Reference:
    """Parts of `hf:…`.

    Raises:
        UserError: not of that form.
    """
    match = _REPOSITORY.fullmatch(text.removeprefix(PREFIX))
    if match is None or ".." in text:
        raise UserError(
            f"weights {text!r}: write hf:OWNER/NAME, hf:OWNER/NAME@REVISION or hf:OWNER/NAME@REVISION:FILE, for "
            "example "
            "hf:facebook/sam-vit-base@main."
        )
    return Reference(match["repo"], match["revision"], match["file"])


def pin(text: str) -> str:
    """Bring the files of `hf:…` into huggingface_hub's cache and name their commit: `hf:OWNER/NAME@COMMIT[:FILE]`.

    Raises:
        UserError: no such repository or revision, no network, gated, or offline and not in the cache.
    """
    named = reference(text)
    if named.pinned and _cached(named) is not None:
        return named.text
    import huggingface_hub

    try:
        if _offline():
            folder = _cached(named)
            if folder is None:
                raise UserError(
                    f"weights {text!r}: not in huggingface_hub's cache, and HF_HUB_OFFLINE forbids the network; unset "
                    "it once."
                )
            commit = folder.name if named.file is None else _commit(folder, named.file)
            return Reference(named.repo, commit, named.file).text
        info = huggingface_hub.HfApi().model_info(named.repo, revision=named.revision)
        names = [printable(s.rfilename) for s in info.siblings or []]
        if named.file and named.file not in names:
            raise UserError(f"weights {text!r}: {named.repo} has no file {named.file!r}; it has {_some(names)}.")
        chosen = [named.file] if named.file else _chosen(names, text)
        commits = {_commit(huggingface_hub.hf_hub_download(named.repo, n, revision=named.revision), n) for n in chosen}
    except UserError:
        raise
    except Exception as error:
        raise _said(error, f"weights {text!r}") from error
    if len(commits) != 1:
        raise UserError(f"weights {text!r}: the repository changed meanwhile; once more, or with @REVISION.")
    return Reference(named.repo, commits.pop(), named.file).text


def local(text: str) -> Path:
    """The file or folder of a pinned `hf:…`, from the cache; the network is never asked.

    Raises:
        UserError: it is not in the cache.
    """
    path = _cached(reference(text))
    if path is None:
        raise UserError(
            f"weights {text!r}: not in huggingface_hub's cache here; the sweep fetches it: variant.weights={text}"
        )
    return path


def _commit(path: str | Path, file: str) -> str:
    """The commit in whose folder of the cache a file lies."""
    return Path(path).parents[len(Path(file).parts) - 1].name


def _cached(named: Reference) -> Path | None:
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(named.repo, revision=named.revision, local_files_only=True)
    except Exception:  # not there, in whatever words
        return None
    path = Path(folder) if named.file is None else Path(folder) / named.file
    if named.file is None and not any(
        matches(p.name, pattern) for p in path.rglob("*") for pattern in ("*.safetensors", "*.bin", "*.pth", "*.pt")
    ):
        return None
    return path if path.exists() else None


def _offline() -> bool:
    import huggingface_hub.constants

    return bool(
        huggingface_hub.constants.is_offline_mode()
        if hasattr(huggingface_hub.constants, "is_offline_mode")
        else huggingface_hub.constants.HF_HUB_OFFLINE
    )


def _chosen(names: Sequence[str], text: str) -> list[str]:
    """The weights of a repository in one form, with their settings; none from its folders."""
    top = [name for name in names if "/" not in name]
    for patterns in _CHOICES:
        if any(matches(name, patterns[0]) for name in top):
            return [name for name in top if any(matches(name, pattern) for pattern in patterns)]
    raise UserError(
        f"weights {text!r}: no weight file in that repository; it has {_some(names)}. Name one: {text}:FILE"
    )


def expanded(entry: Entry, timeout_s: float) -> list[tuple[Download, Headers]]:
    """The files of an entry with its `hub:` addresses listed: name, size, SHA-256 where the Hub keeps one.

    Raises:
        UserError: no network, gated, or nothing fits the pattern.
    """
    network.require_online(entry.key)
    files: list[tuple[Download, Headers]] = []
    for file in entry.files:
        if not file.on_hub:
            files.append((file, ()))
            continue
        for url in file.urls:
            files += _listed(entry, file, url, timeout_s)
    return files


def _listed(entry: Entry, file: Download, url: str, timeout_s: float) -> list[tuple[Download, Headers]]:
    import huggingface_hub

    match = _URL.fullmatch(url)
    if match is None:
        raise UserError(f"{entry.key}: url {url!r}: hub:OWNER/NAME/PATTERN or hub-dataset:OWNER/NAME/PATTERN.")
    kind = "dataset" if match["data"] else "model"
    try:
        info: Any = huggingface_hub.HfApi().repo_info(
            match["repo"], repo_type=kind, revision=match["revision"], files_metadata=True, timeout=timeout_s
        )
        headers = huggingface_hub.utils.build_hf_headers()
    except Exception as error:
        raise _said(error, entry.key) from error
    files = {printable(s.rfilename): s for s in info.siblings or []}
    names = [name for name in files if any(matches(name, one) for one in match["pattern"].split(","))]
    if not names:
        raise UserError(
            f"{entry.key}: nothing in {match['repo']} fits {match['pattern']!r}; it has {_some(list(files))}."
        )
    if file.digest is not None and len(names) > 1:
        raise UserError(f"{entry.key}: several files of {match['repo']} fit {match['pattern']!r}: {_some(names)}.")
    token = tuple((k, v) for k, v in headers.items() if k.lower() == "authorization")
    result = []
    for name in names:
        lfs = getattr(files[name], "lfs", None)
        sha256 = (lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)) if lfs else None
        address = huggingface_hub.hf_hub_url(match["repo"], name, repo_type=kind, revision=info.sha)
        digest = file.digest or (f"sha256:{sha256}" if sha256 else None)
        said_by = file.digest_from if file.digest else f"the Hub's own record of {match['repo']}"
        result.append(
            (Download(name.rpartition("/")[2], (address,), files[name].size, None, digest, said_by, file.unpack), token)
        )
    return result


def _said(error: Exception, what: str) -> UserError:
    """huggingface_hub's errors as one line."""
    name, text = type(error).__name__, " ".join(str(error).split())[:200]
    if name in ("RepositoryNotFoundError", "GatedRepoError"):
        return UserError(
            f"{what}: the Hub has no such repository for you ({text}); gated ones need HF_TOKEN, or from=FILE."
        )
    if name == "RevisionNotFoundError":
        return UserError(f"{what}: the repository has no such revision ({text}).")
    if name == "OfflineModeIsEnabled":
        return UserError(f"{what}: HF_HUB_OFFLINE forbids the network; unset it, or bring the file: from=FILE.")
    return UserError(f"{what}: the Hub does not answer ({name}: {text}); later again, or bring the file: from=FILE.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "nothing"
