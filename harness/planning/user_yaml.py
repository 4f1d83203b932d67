"""Looks at the user's YAML files before they are composed, so that a bad one is named in one line."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError

_LARGEST = 1 << 20
_MOST_NODES = 100_000
_EXAMPLE = "it holds `key: value` lines, as the files in sweeps/ do"


def load(path: Path, largest: int = _LARGEST) -> dict[str, Any]:
    """The plain values of a configuration file that `check` lets through.

    Raises:
        UserError: as `check`.
    """
    check(path, largest)
    value: dict[str, Any] = yaml.safe_load(path.read_bytes().decode("utf-8-sig"))
    return value


def check(path: Path, largest: int = _LARGEST) -> None:
    """Read a configuration file without making anything of it.

    Raises:
        UserError: it cannot be read, is no YAML, is empty, no mapping, has tags that name Python objects, or aliases
            that grow without end.
    """
    try:
        if not os.path.lexists(path):
            raise UserError(f"{path}: no such file.")
        if not path.is_file():
            raise UserError(f"{path}: no plain file; {_EXAMPLE}.")
        if path.stat().st_size > largest:
            raise UserError(f"{path}: larger than {largest >> 20} MiB; a configuration file is small: {_EXAMPLE}.")
        text = path.read_bytes().decode("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        nodes = 0 if node is None else _expanded(node, {}, ())
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text in UTF-8; {_EXAMPLE}.") from error
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({_short(error)}).") from error
    if nodes > _MOST_NODES:
        raise UserError(f"{path}: its aliases (*name) stand for more than {_MOST_NODES} values; write them out.")
    if not isinstance(node, yaml.MappingNode):
        what = "is empty" if node is None or node.value == "" else f"holds a {node.id}"
        raise UserError(f"{path}: {what}; {_EXAMPLE}.")
    for tagged in _tags(node, set()):
        raise UserError(
            f"{path}: tag {tagged.tag.replace('tag:yaml.org,2002:', '!!')} in line {tagged.start_mark.line + 1} is not "
            "allowed: a configuration holds plain values; name a class with _target_."
        )
    for mixed in _mixed_keys(node, set()):
        raise UserError(
            f"{path}: the mapping in line {mixed.start_mark.line + 1} has keys that are no text; put them in quotes."
        )
    try:
        OmegaConf.load(io.StringIO(text))
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, TypeError, ArithmeticError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({_short(error)}).") from error


def includes(path: Path) -> Iterator[tuple[str, str]]:
    """(group, name) of the other files that a checked file's `defaults` list."""
    # As Hydra reads it, to which a date is text.
    content = OmegaConf.to_container(OmegaConf.load(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    for entry in content.get("defaults") or [] if isinstance(content, dict) else []:
        for group, name in entry.items() if isinstance(entry, dict) else [("", entry)]:
            if isinstance(name, str):
                yield str(group).replace("override ", "").strip("/ ").partition("@")[0], name


def _expanded(node: Any, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Nodes of the tree with every alias written out; raises RecursionError for one that holds itself."""
    if id(node) in above:
        raise RecursionError("an alias stands inside of what it names")
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        flat = [n for pair in children for n in pair] if isinstance(node, yaml.MappingNode) else children
        known[id(node)] = 1 + sum(_expanded(child, known, (*above, id(node))) for child in flat)
    return known[id(node)]


def _tags(node: Any, seen: set[int]) -> Iterator[Any]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
        yield node
    for child in node.value if isinstance(node, yaml.CollectionNode) else []:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _tags(part, seen)


def _mixed_keys(node: Any, seen: set[int]) -> Iterator[Any]:
    """Mappings whose keys cannot be sorted: neither all text nor all whole numbers."""
    if id(node) in seen or not isinstance(node, yaml.CollectionNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        kinds = {key.tag.removeprefix("tag:yaml.org,2002:") for key, _ in node.value} - {"merge"}
        if not (kinds <= {"str"} or kinds <= {"int", "bool"}):
            yield node
    for child in node.value:
        for part in child if isinstance(child, tuple) else (child,):
            yield from _mixed_keys(part, seen)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or "nested too deeply"
