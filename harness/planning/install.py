"""How to get a package that is missing or too old, from what this distribution says it needs."""

from __future__ import annotations

import re
from importlib import metadata

DISTRIBUTION = "interactive-segmentation-bench"
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


def innermost(error: ImportError) -> ImportError:
    """The import error that began a chain of them; Hydra wraps those of a variant's module in its own words."""
    cause = error.__cause__
    return innermost(cause) if isinstance(cause, ImportError) and cause.name else error


def advice(error: ImportError) -> str:
    """End of a message about an import that failed: the command that installs what lacks, or ""."""
    package = (error.name or "").partition(".")[0]
    if not package:
        return ""
    for requirement in _requirements():
        name = re.match(r"[\w.-]+", requirement)
        if name is None or _plain(name[0]) != _plain(package):
            continue
        extra = _EXTRA.search(requirement)
        if extra is not None:
            return f". Install the extra {extra[1]}: pip install '{DISTRIBUTION}[{extra[1]}]'"
        return f". Install or renew it: pip install -U '{requirement.partition(';')[0].strip()}'"
    return ""


def _requirements() -> list[str]:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return []


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
