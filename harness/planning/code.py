"""Digest of the code that decides a cell's numbers: the variant's, the data set's, the protocol's and the click loop's.

A module's sources count in a normal form without comments, docstrings and layout, together with every module that it
imports from its own project, also inside functions. Libraries (torch, numpy, …) are recorded with the machine instead.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import subprocess
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import __version__

_LOOP = "harness.clicking.loop"
_LIBRARIES = tuple(
    str(Path(path).resolve()) for path in {*sysconfig.get_paths().values()} if path and Path(path).is_dir()
)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SILENT_FIELDS = ("type_comment", "kind", "type_ignores", "type_params", "ctx")


@dataclass(frozen=True)
class Code:
    """The code behind some numbers.

    Attributes:
        digest: equal for equal sources in normal form and the same version of the harness.
        dirty: whether a file of it differs from the last commit of its checkout.
    """

    digest: str
    dirty: bool


@functools.lru_cache(maxsize=256)
def of(modules: tuple[str, ...]) -> Code:
    """The code of these modules, of what they import from their own project, and of the click loop."""
    files = {path for name in (*modules, _LOOP) for path in _reach(name)}
    return Code(_digest(files), _dirty(files))


def _digest(files: Iterable[Path]) -> str:
    """Independent of where the files lie."""
    return hashlib.sha256("".join([__version__, *sorted(map(_normal_form, files))]).encode()).hexdigest()[:16]


def of_modules(*names: str) -> str:
    """Digest of these modules alone and of what they import from their own project."""
    return _digest({path for name in names for path in _reach(name)})


def module_of(target: str) -> str:
    """Name of the module of a `_target_` such as `package.module.Class` or `package.module.Class.method`."""
    parts = target.split(".")
    for size in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:size])
        if _source(name) is not None:
            return name
    return parts[0]


@functools.lru_cache(maxsize=256)
def _reach(name: str) -> frozenset[Path]:
    """Source files of a module and of every module that it imports from its own project, directly or not."""
    first = _source(name)
    if first is None:
        return frozenset()
    home = _home(name, first)
    known: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        path = _source(module)
        if module in known or path is None or not _belongs(path, home):
            continue
        known[module] = path
        waiting += _imports(module, path)
    return frozenset(known.values())


def _home(name: str, path: Path) -> Path:
    """Folder whose modules count: that above the top package, or the package alone where libraries are installed."""
    above = path.parents[name.count(".") + (path.name == "__init__.py")]
    if not _is_library(above):
        return above
    return path.parent if "." in name or path.name == "__init__.py" else path


def _belongs(path: Path, home: Path) -> bool:
    return path == home or (home in path.parents and (_is_library(home) or not _is_library(path)))


def _is_library(path: Path) -> bool:
    text = str(path.resolve())
    return any(text == library or text.startswith(library + "/") for library in _LIBRARIES)


@functools.lru_cache(maxsize=4096)
def _source(name: str) -> Path | None:
    """Source file of a module or package, found without importing anything; None for what is no Python source."""
    top, *rest = name.split(".")
    folders = _top(top)
    path: Path | None = None
    for number, part in enumerate([top, *rest]):
        candidates = [Path(f) / part / "__init__.py" for f in folders] + [Path(f) / f"{part}.py" for f in folders]
        path = next((c for c in candidates if c.is_file()), None)
        if path is None:
            return None
        if path.name != "__init__.py" and number < len(rest):
            return None
        folders = [str(path.parent)]
    return path


@functools.lru_cache(maxsize=256)
def _top(name: str) -> list[str]:
    """Folders in which a top-level module or package lies."""
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return [str(Path(folder).parent) for folder in spec.submodule_search_locations]
        if spec is not None and spec.origin and spec.origin.endswith(".py"):
            return [str(Path(spec.origin).parent)]
    return []


@functools.lru_cache(maxsize=1024)
def _tree(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _imports(module: str, path: Path) -> list[str]:
    """Modules that a source file imports anywhere, with the packages on their way."""
    tree = _tree(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            base = ".".join(part for part in (above if node.level else "", node.module or "") if part)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return sorted({".".join(name.split(".")[: n + 1]) for name in names for n in range(name.count(".") + 1)} - {""})


@functools.lru_cache(maxsize=1024)
def _normal_form(path: Path) -> str:
    """Digest of a source file without comments, docstrings and layout."""
    tree = _tree(path)
    if tree is None:  # not Python that this version reads: every byte counts
        return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                del node.body[0]
    return hashlib.sha256(_written(tree).encode()).hexdigest()


def _written(node: object) -> str:
    """A syntax tree as text without places; fields that hold nothing are left out, so that Python versions agree."""
    if isinstance(node, ast.AST):
        inner = ",".join(
            f"{name}={_written(value)}"
            for name, value in ast.iter_fields(node)
            if name not in _SILENT_FIELDS and value is not None and value != []
        )
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    return repr(node)


def _dirty(files: Iterable[Path]) -> bool:
    """Whether any of the files differs from the last commit of its checkout; files outside a checkout do not count."""
    checkouts: dict[Path, list[str]] = {}
    for path in files:
        root = next((folder for folder in path.parents if (folder / ".git").exists()), None)
        if root is not None:
            checkouts.setdefault(root, []).append(str(path))
    for root, paths in checkouts.items():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            command = ["git", "status", "--porcelain", "--", *paths]
            changes = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=20).stdout
            if changes.strip():
                return True
    return False
