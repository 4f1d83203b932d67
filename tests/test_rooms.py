"""The arrows between the rooms of the house (docs/architecture.md), read from the imports of the source files."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("harness", "reports", "baselines", "inter2former")


def imports(path: Path) -> set[str]:
    """Dotted names of the project's own modules that a source file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


def room(name: str) -> str:
    """`harness.latency.stats` and `harness.latency` -> `harness.latency`; a file at the top is a room of its own."""
    parts = name.split(".")
    folder = ROOT / "/".join(parts[:2])
    return ".".join(parts[:2]) if folder.is_dir() or folder.with_suffix(".py").exists() else parts[0]


def arrows() -> set[tuple[str, str]]:
    """(room, room) wherever a file of the first imports one of the second."""
    found: set[tuple[str, str]] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found |= {(here, room(name)) for name in imports(path)}
    return {(a, b) for a, b in found if a != b}


def test_packages_point_one_way():
    packages = {(a, b.split(".")[0]) for a, b in arrows() if a.split(".")[0] != b.split(".")[0]}
    allowed = {
        "reports": {"harness"},
        "harness": set(),
        "baselines": {"inter2former"},
        "inter2former": set(),
    }
    wrong = {(a, b) for a, b in packages if b not in allowed[a.split(".")[0]]}
    assert not wrong


def test_rooms_have_no_circles():
    """A depth-first walk over the rooms; a way back into a room that is still open is a circle."""
    ahead: dict[str, set[str]] = {}
    for a, b in arrows():
        ahead.setdefault(a, set()).add(b)
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in done:
            return
        for other in sorted(ahead.get(name, ())):
            walk(other, [*way, name])
        done.add(name)

    for name in sorted(ahead):
        walk(name, [])


def test_a_measuring_child_pins_itself_before_numpy_is_imported():
    """`python -m harness.latency.child` runs every `__init__` on its way; none of them may import a thing.

    But for the one module that looks after Ctrl-C, which itself takes no more than Python has by then, and `signal`.
    """

    def imported(path: str) -> set[str]:
        nodes = [
            n for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, (ast.Import, ast.ImportFrom))
        ]
        return {f"{n.module}.{a.name}" if isinstance(n, ast.ImportFrom) else a.name for n in nodes for a in n.names}

    assert imported("harness/__init__.py") == {"harness.interrupts"}
    assert imported("harness/latency/__init__.py") == imported("harness/machine/__init__.py") == set()
    allowed = {"__future__.annotations", "os", "sys", "signal", "types.FrameType", "types.TracebackType"}
    assert imported("harness/interrupts.py") <= allowed
