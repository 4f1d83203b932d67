"""Builds what the configuration of a run on disk names, as far as its classes may be trusted.

A run's folder may come from anybody, and `_target_` names anything that Python can import and call. So nothing is given
to Hydra here: a target is looked up exactly, and only a segmenter or data set class of this project, or a class of the
folder that the user names with --config-dir, is called, with plain values. Everything else is named and left alone.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError
from harness.fetching.weights import resolved
from harness.planning.config import Config, at_home, with_starts

PROJECT = frozenset({"baselines", "harness", "inter2former"})
"""Packages whose segmenters and data sets are built."""
_INTERFACES = (("encode", "start"), ("load", "digest", "__len__"))
"""Methods of a segmenter, methods of a data set."""
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)
_VARIABLE = re.compile(r"\$\{oc\.env:\s*(?P<plain>\w+)\s*(,[^{}$]*)?\}", re.ASCII)
_DECODED = re.compile(r"\$\{oc\.decode:\s*(?P<inner>\$\{oc\.env:[^{}$]*\})\s*\}", re.ASCII)


class NotBuilt(Exception):
    """The configuration asks for what a run from disk may not have; the message says what, and how to allow it."""


@dataclass(frozen=True)
class Trust:
    """What the user vouches for in this command.

    Attributes:
        config_dir: folder of the user's own modules, or None.
        environment: names of environment variables that `${oc.env:NAME}` may read.
        run: the run's folder; modules inside it are never imported.
    """

    config_dir: Path | None = None
    environment: frozenset[str] = field(default_factory=frozenset)
    run: Path | None = None

    def build(self, config: Mapping[str, Any]) -> Any:
        """Make the object of a `_target_` configuration.

        Raises:
            NotBuilt: a class that is not trusted, a Hydra keyword, an expression.
            Exception: whatever the class raises.
        """
        return self._value(at_home(with_starts(dict(config), "")), outermost=True)

    def _value(self, value: Any, outermost: bool = False) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (list, tuple)):
            return [self._value(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        if "_target_" not in value and not outermost:
            for key in value:
                _refuse_keyword(key)
            return {key: self._value(one) for key, one in value.items()}
        built = self._class(value.get("_target_"), outermost)
        settings = {key: one for key, one in value.items() if key != "_target_"}
        for key in settings:
            _refuse_keyword(key)
        try:  # names of fetched weights become paths; nothing is fetched for a run from disk
            settings = resolved(settings)
        except UserError as error:
            raise NotBuilt(f"not built: {error}") from error
        return built(**{str(key): self._value(one) for key, one in settings.items()})

    def _text(self, text: str) -> Any:
        """A text as it is; `${oc.env:NAME}` as its value where the user allows NAME."""
        if "${" not in text:
            return text
        names = {match["plain"] for match in _VARIABLE.finditer(text)}
        if "${" in _VARIABLE.sub("", _DECODED.sub(lambda m: m["inner"], text)):
            raise NotBuilt(f"not built: {text!r} in the run's own configuration is an expression")
        for name in sorted(names - self.environment):
            raise NotBuilt(f"not built: {text!r} reads the environment; give environment={name} to allow it")
        try:
            return OmegaConf.to_container(OmegaConf.create([text]), resolve=True)[0]  # type: ignore[index]
        except OmegaConfBaseException as error:
            raise NotBuilt(f"not built: {text!r}: {str(error).splitlines()[0]}") from error

    def _class(self, target: object, outermost: bool) -> type:
        module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
        if not isinstance(target, str) or not _TARGET.fullmatch(target) or module.endswith("__main__"):
            raise _stranger(target)
        if module.partition(".")[0] in PROJECT:
            cls = _defined(module, name)
            if cls is None or not _is_ours(cls) or not _fits(cls):
                raise _stranger(target)
            return cls
        if not self._lies_in_folder(module):
            raise _stranger(target)
        Config(self.config_dir)  # puts the folder on the Python path
        cls = _defined(module, name)
        if cls is None or not (_is_ours(cls) and _fits(cls)) and not self._is_users(cls):
            raise _stranger(target)
        if outermost and not _fits(cls):
            raise NotBuilt(f"not built: class {target} of the run's own configuration is no segmenter and no data set")
        return cls

    def _lies_in_folder(self, module: str) -> bool:
        """Whether the file of a module would be one of the user's folder; nothing is imported to find out."""
        if self.config_dir is None:
            return False
        search, name = [str(self.config_dir.expanduser().resolve())], ""
        for part in module.split("."):
            name = f"{name}.{part}".lstrip(".")
            spec = PathFinder.find_spec(name, search)
            if spec is None:
                return False
            search = [*(spec.submodule_search_locations or ())]
            if not all(map(self._is_users_file, [*search, *([spec.origin] if spec.origin else [])])):
                return False
        return True

    def _is_users_file(self, path: str) -> bool:
        place = Path(path).resolve()
        inside_run = self.run is not None and place.is_relative_to(self.run.resolve())
        folder = self.config_dir
        return folder is not None and place.is_relative_to(folder.expanduser().resolve()) and not inside_run

    def _is_users(self, cls: type) -> bool:
        """Whether a class is defined in a module of the user's folder."""
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        return file is not None and self._is_users_file(file)


def _refuse_keyword(key: object) -> None:
    if isinstance(key, str) and key.startswith("_"):
        raise NotBuilt(f"not built: the run's own configuration has the keyword {key}")


def _stranger(target: object) -> NotBuilt:
    return NotBuilt(f"not built: class {target} of the run's own configuration; give --config-dir DIR")


def _defined(module: str, name: str) -> type | None:
    """The class that a module holds under a name; None for anything else. Nothing is looked up on objects."""
    try:
        attribute = vars(importlib.import_module(module)).get(name)
    except ImportError:
        return None
    return attribute if isinstance(attribute, type) else None


def _is_ours(cls: type) -> bool:
    """Whether a class is defined in one of the project's packages, under its own name."""
    home = sys.modules.get(cls.__module__)
    return cls.__module__.partition(".")[0] in PROJECT and vars(home or object).get(cls.__name__) is cls


def _fits(cls: type) -> bool:
    """Whether a class is a segmenter or a data set."""
    return any(all(callable(getattr(cls, method, None)) for method in methods) for methods in _INTERFACES)
