"""Names and texts that MLflow accepts, made by rule from names that may hold anything.

The same name gives the same key in every run and on every machine, and two names never share a key within a run.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

from harness.planning.dotted import dotted
from harness.text import printable

KEY_LENGTH = 250  # MLflow's limit for keys of metrics, parameters and tags
VALUE_LENGTH = 5000  # of tags and parameters: the smallest limit of the servers in use
_READABLE = {"<": "under", ">": "over", "%": "pct", "@": ""}


def key(name: object) -> str:
    """A key for a metric, parameter or tag.

    `<`, `>`, `%` and `@` are spelt out (`noc@90` is `noc90`). A name that loses something else, or that has more than
    250 characters, ends in `-` and the first 16 hexadecimal digits of its SHA-256.
    """
    text = str(name)
    spelt = "".join(_READABLE.get(c, c) for c in text)
    allowed = "".join(c if c.isalnum() or c in "_-./ :" else "_" for c in spelt)
    if posixpath.normpath(allowed) != allowed or allowed.startswith(("/", "..")) or allowed in ("", "."):
        # MLflow reads keys as paths and takes none that could be written otherwise.
        allowed = "/".join("_" if part in ("", ".", "..") else part for part in allowed.split("/"))
        if allowed.startswith(".."):
            allowed = "_" + allowed
    return allowed if allowed == spelt and len(allowed) <= KEY_LENGTH else _marked(allowed, text)


def keys(names: Iterable[str]) -> dict[str, str]:
    """Name -> key, no two alike: of names that are spelt alike, those that had to be changed get the digits too."""
    result: dict[str, str] = {}
    used: set[str] = set()
    # Names that stay as they are come first, so that the outcome doesn't depend on the order of the names.
    for name in sorted(set(names), key=lambda name: (key(name) != name, name)):
        chosen = key(name)
        result[name] = _marked(chosen, name) if chosen in used else chosen
        used.add(result[name])
    return result


def value(content: object) -> str:
    """Text of a tag or parameter: on one line, encodable, at most 5000 characters."""
    return printable(str(content))[:VALUE_LENGTH]


def flatten(nested: Mapping[str, Any]) -> dict[str, str]:
    """{"a": {"b": 1}} -> {"a.b": "1"}; the names are not yet keys."""
    return {name: value(content) for name, content in dotted(nested).items()}


def _marked(text: str, name: str) -> str:
    digits = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: KEY_LENGTH - 1 - len(digits)]}-{digits}"
