"""Addresses of servers as they may be shown and stored: without the password within."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_EXPRESSION = re.compile(r"\$\{[^{}]*\}")
"""`${oc.env:NAME}` tells where a password is, not what it is."""
_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?P<place>[^\s'\"<>]*)")
_QUERY = re.compile(
    r"(?P<name>[?&;][\w.-]*(?:passw|secret|token|sig|credential|api_?key|access_?key)[\w.-]*=)[^&;#\s'\"]+",
    re.IGNORECASE,
)


def without_secrets(value: Any) -> Any:
    """Texts with the secrets of every address in them replaced by `***`; containers likewise.

    Hidden are the password of `http://user:password@host`, a name without one (`https://TOKEN@host`: servers take
    tokens so), and what a query calls a password, token or key.

    >>> without_secrets("tracking.uri=http://me:pass@host:5000/x")
    'tracking.uri=http://me:***@host:5000/x'
    """
    if isinstance(value, str):
        return _ADDRESS.sub(_shown, value) if "://" in value else value
    if isinstance(value, Mapping):
        return {without_secrets(key): without_secrets(one) for key, one in value.items()}
    return [without_secrets(one) for one in value] if isinstance(value, (list, tuple)) else value


def _shown(match: re.Match[str]) -> str:
    place = match["place"]
    authority = re.split(r"[/?#]", place, maxsplit=1)[0]
    end = authority.rfind("@")
    if end < 0 and re.search(r":[^/?#]*[^/?#\d]", authority):
        end = place.rfind("@")  # a password with a / in it, which should have been %2F
    if end >= 0:
        name, colon, password = place[:end].partition(":")
        if not _EXPRESSION.fullmatch(password if colon and not name.startswith("${") else place[:end]):
            place = f"{name}:{HIDDEN}{place[end:]}" if colon else f"{HIDDEN}{place[end:]}"
    return match["scheme"] + _QUERY.sub(rf"\g<name>{HIDDEN}", place)
