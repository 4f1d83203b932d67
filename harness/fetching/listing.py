"""What the list says of an entry: where it stands, how large it is, who vouches for its content."""

from __future__ import annotations

from harness.fetching import places
from harness.fetching.manifests import Entry


def state(entry: Entry) -> str:
    """Where an entry stands: here, partly here, to be fetched, by hand."""
    if places.installed(entry.kind, entry.name) is not None:
        return "here"
    incoming = places.home() / "incoming" / f"{entry.kind}-{entry.name}"
    parts = list(incoming.glob("*.part")) if incoming.is_dir() else []
    if parts:
        return f"begun, {sum(p.stat().st_size for p in parts) / 1e6:,.0f} MB"
    return "not here" if entry.files else "by hand: from=FILE"


def size(entry: Entry) -> str:
    """Megabytes, "about" where nobody said exactly."""
    here = places.installed(entry.kind, entry.name)
    size = sum(f.size for f in here.files) if here is not None else entry.bytes
    if size is None:
        return "not known"
    return (
        f"{'' if here else 'about '}{size / 1e6:,.1f} MB"
        if size < 1e7
        else f"{'' if here else 'about '}{size / 1e6:,.0f} MB"
    )


def digest(entry: Entry) -> str:
    """Which digest is required: md5, sha256, the Hub's, or the one of the first use."""
    if not entry.files:
        return "at first use"
    known = {(file.digest or "").partition(":")[0] for file in entry.files}
    if "" in known:
        return "the Hub's" if all(file.on_hub for file in entry.files) else "at first use"
    return ", ".join(sorted(known))
