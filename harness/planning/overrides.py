"""The user's `key=value` arguments in Hydra's grammar: what is meant as text is quoted for them.

Hydra reads `( ) = , # ' " [ ] { } $` and blanks in a value as its own grammar, and `2024` as a number. A path may have
any of these characters, and a folder may be called 2024.
"""

from __future__ import annotations

import re

from hydra.core.override_parser.overrides_parser import OverridesParser

TEXT = frozenset(
    {
        "root", "out", "name", "note", "weights", "init", "cache", "uri", "experiment", "folder", "images", "masks",
        "split", "starts", "file", "first_clicks", "user", "mask_suffix", "backbone", "title", "device",
    }
)  # fmt: skip
"""Last parts of keys whose values are text whatever they look like: paths and names."""
_KEYS = re.compile(r"^(?P<key>[+~]{0,2}[\w.@/:-]+)=(?P<value>.*)$", re.DOTALL)
_WORD = re.compile(r"^[A-Za-z_/.][\w/.:+-]*$", re.ASCII)


def readable(override: str) -> str:
    """The override with its value quoted where Hydra would not read it as the text that it is.

    Values that the user quoted, `null`, interpolations (`${oc.env:HOME}/data`), lists and mappings stay as they are.
    """
    match = _KEYS.match(override)
    if match is None:
        return override
    key, value = match["key"], match["value"]
    last = key.lstrip("+~").rpartition(".")[2]
    if value in ("", "null"):
        return override
    if last in TEXT:
        if _WORD.match(value) and value.lower() not in ("true", "false", "yes", "no", "on", "off", "nan", "inf"):
            return override
        if parses(override) and (value[0] in "'\"" and value[-1] == value[0] or "${" in value):
            return override
        return f"{key}={quoted(literal(value))}"
    if parses(override) or value[0] in "[{'\"":
        return override
    return f"{key}={quoted(literal(value))}"


def quoted(value: str) -> str:
    """A text as a quoted value of Hydra's grammar."""
    mark = '"' if "'" in value and '"' not in value else "'"
    # A backslash means itself, but before a quote or at the end.
    escaped = re.sub(rf"(\\*)({mark}|$)", lambda m: m[1] * 2 + (f"\\{m[2]}" if m[2] else ""), value)
    return mark + escaped + mark


def literal(value: str) -> str:
    """A text that OmegaConf gives back as it is, where `${` would begin an interpolation."""
    return re.sub(r"(\\*)\$\{", lambda m: m[1] * 2 + "\\${", value)


def parses(override: str) -> bool:
    """Whether Hydra's grammar knows what to do with it."""
    try:
        OverridesParser.create().parse_override(override)
    except Exception:  # Hydra raises several kinds
        return False
    return True
