"""Configuration: Hydra's compose API over the packaged `sweeps/` folder and, if given, the user's own folder.

Hydra's `@hydra.main` is not used: it exits with 1 on a misspelt name and prints a stack of its own; a newcomer needs
one line and exit code 2, and tests need a function.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import UserError, near_miss
from harness.fetching.weights import resolved
from harness.planning import fits, install, user_yaml
from harness.planning.environment import containers, recorded
from harness.planning.overrides import quoted, readable

GROUPS = ("ablation", "variant", "dataset", "protocol", "measure")
_SEVERAL = re.compile(rf"^\+{{0,2}}(?P<key>{'|'.join(GROUPS)})=\[?(?P<names>[\w./+-]+(\s*,\s*[\w./+-]+)+)\]?$")
_SETTINGS_LISTED = "`--help` lists the usual ones, `python -m harness.sweep --show` all."
_GROUP_CHOICE = re.compile(r"^\+{0,2}(?P<group>\w+)=(?P<name>[\w./+-]+)$")


UNNAMED = "custom"
"""Name of a sweep without an ablation in `config.yaml`, and of one whose variants give none."""
_LONGEST_NAME = 40
"""Characters of variants' names joined, as the name of a folder."""


class Config:
    """The configuration root: packaged files first, then a folder of the user's with the same sub-folders.

    Args:
        config_dir: folder with `ablation/`, `variant/`, `dataset/`, … of the user's own; it is also put on the
            Python path, so that a `_target_` may name a module beside the YAML files.

    Raises:
        UserError: the folder does not exist.
    """

    def __init__(self, config_dir: str | os.PathLike[str] | None = None):
        self.config_dir = None if config_dir is None else Path(config_dir).expanduser().resolve()
        if self.config_dir is not None:
            if not self.config_dir.is_dir():
                raise UserError(
                    f"--config-dir {config_dir}: no such folder. Give the folder that holds variant/, dataset/, …"
                )
            _extend_python_path(self.config_dir)

    def options(self, group: str) -> list[str]:
        """Names that a group offers, sorted."""
        folders: list[Any] = [resources.files("sweeps") / group]
        if self.config_dir is not None:
            folders.append(self.config_dir / group)
        names = {item.name[:-5] for f in folders if f.is_dir() for item in f.iterdir() if item.name.endswith(".yaml")}
        return sorted(names)

    def compose(self, overrides: Sequence[str] = (), primary: str = "config") -> DictConfig:
        """Compose `config.yaml` with command-line overrides such as `+ablation=dha dataset.limit=3`.

        Args:
            primary: another file to start from, `train` for training.

        Raises:
            UserError: unknown group option or key (with the near miss), or a value that does not parse.
        """
        normal = [self._checked(o) for o in overrides]
        for override in normal:
            if match := _GROUP_CHOICE.match(override):
                self._check_file(match["group"], match["name"])
        with self._hydra() as search_path:
            try:
                config = hydra_compose(primary, overrides=[*search_path, *normal])
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(self._explain(error, normal, search_path, primary)) from error
        if primary == "config" and "ablation" in config and config.ablation.name == UNNAMED:
            config.ablation.name = self.picked(overrides, "ablation") or _name_of_variants(
                recorded(config.variants), self.picked(overrides, "variant")
            )
        return config

    def load(self, group: str, name: str, extra: Mapping[str, Any] | None = None) -> DictConfig:
        """Load `group/name.yaml` alone, as a free configuration, and lay `extra` over it.

        Raises:
            UserError: unknown name, or a key in `extra` that the file does not have.
        """
        self.require(group, name)
        self._check_file(group, name)
        with self._hydra() as search_path:
            try:
                whole = hydra_compose("empty", overrides=[*search_path, f"+{group}={name}"])
            except (HydraException, OmegaConfBaseException) as error:
                raise UserError(self._explain(error, [f"{group}={name}"], search_path)) from error
        alone = OmegaConf.create(recorded(whole[group]))
        assert isinstance(alone, DictConfig)
        return overlay(alone, extra or {}, f"{group} {name!r}")

    def picked(self, overrides: Sequence[str], group: str) -> str | None:
        """The option of a group that the command line names (`variant=NAME`; the last one counts), or None."""
        matches = [m for m in map(_GROUP_CHOICE.match, overrides) if m and m["group"] == group]
        return matches[-1]["name"] if matches else None

    def require(self, group: str, name: str) -> None:
        """Raise UserError with the near miss if the group has no such option."""
        if name not in self.options(group):
            raise UserError(f"unknown {group} {name!r}. {near_miss(name, self.options(group))}")

    def file(self, group: str, name: str) -> str:
        """How to name an option in a message: the user's file, or its group and name."""
        path = None if self.config_dir is None else self.config_dir / group / f"{name}.yaml"
        return f"{group} {name!r}" if path is None or not path.is_file() else str(path)

    def _check_file(self, group: str, name: str, seen: frozenset[Path] = frozenset()) -> None:
        """Raise UserError if the user's file of this name, or one that it builds on, is no configuration."""
        if self.config_dir is None:
            return
        file = self.config_dir / group / f"{name.removesuffix('.yaml')}.yaml"
        if not file.is_file() or file in seen:
            return
        user_yaml.check(file)
        for other, option in user_yaml.includes(file):
            self._check_file(other or group, option, seen | {file})

    def _checked(self, override: str) -> str:
        match = _GROUP_CHOICE.match(override)
        if match and match["group"] in GROUPS:
            self.require(match["group"], match["name"])
            # `ablation` is absent from the defaults list (its files are global), so Hydra wants a plus.
            return f"{'+' if match['group'] == 'ablation' else ''}{match['group']}={match['name']}"
        if several := _SEVERAL.match(override):
            raise UserError(_one_of_several(override, several["key"], several["names"]))
        if "=" not in override:
            raise UserError(
                f"cannot read {override!r}: arguments look like key=value, for example +ablation=dha dataset.limit=3."
            )
        # Every data set takes start masks, a user's own too, without a line in its file.
        plus = "++" if override.startswith("dataset.starts=") else ""
        return readable(plus + override)

    @contextlib.contextmanager
    def _hydra(self) -> Iterator[list[str]]:
        search = (
            [] if self.config_dir is None else [f"hydra.searchpath=[{quoted('file://' + self.config_dir.as_posix())}]"]
        )
        with initialize_config_module("sweeps", version_base=None):
            yield search

    def _explain(
        self, error: Exception, overrides: Sequence[str], search_path: Sequence[str], primary: str = "config"
    ) -> str:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        for override in overrides:
            key, _, value = override.lstrip("+~").partition("=")
            if text.startswith("Ambiguous value") and f"'{override}'" in text:
                return _one_of_several(override, key, value)
            if key not in GROUPS and f"'{key}'" in str(error):
                plain = [o for o in overrides if o.lstrip("+").split("=", 1)[0] in GROUPS]
                with contextlib.suppress(HydraException, OmegaConfBaseException):
                    known = _leaves(hydra_compose(primary, overrides=[*search_path, *plain]))
                    if key in known:
                        return f"setting {key!r} exists already: leave out the plus of {override!r}."
                    return f"unknown setting {key!r}. {near_setting(key, known)}"
        return f"{text} (in: {' '.join(overrides)})"


def near_setting(key: str, known: Sequence[str]) -> str:
    """Ending of an error message for an unknown setting: the one that was meant, else those beside it.

    >>> near_setting("limit", ["out", "dataset.root", "dataset.limit"])
    "Did you mean 'dataset.limit'? `--help` lists the usual ones, `python -m harness.sweep --show` all."
    """
    parent, _, last = key.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    anywhere = [k for k in known if k.rpartition(".")[2] == last]
    nearest = [siblings[name] for name in difflib.get_close_matches(last, siblings, n=1, cutoff=0.8)]
    nearest = nearest or difflib.get_close_matches(key, anywhere, n=1, cutoff=0.6) or anywhere[:3]
    nearest = nearest or [siblings[name] for name in difflib.get_close_matches(last, siblings, n=1, cutoff=0.5)]
    if not nearest:
        lasts = {k.rpartition(".")[2] for k in known}
        near_last = difflib.get_close_matches(last, sorted(lasts), n=1, cutoff=0.8)
        nearest = [k for k in known if k.rpartition(".")[2] in near_last][:3]
    if nearest:
        return f"Did you mean {' or '.join(map(repr, nearest))}? {_SETTINGS_LISTED}"
    beside = [*siblings.values()] or [k for k in known if "." not in k]
    return f"Allowed: {', '.join(sorted(beside))}. {_SETTINGS_LISTED}"


def _one_of_several(override: str, key: str, names: str) -> str:
    """What to write in the place of `key=a,b`."""
    apart = [name.strip() for name in names.split(",")]
    if key == "variant":
        return f"{override}: one name stands here; for several write variants=[{','.join(apart)}]."
    if key == "dataset":
        mapping = ", ".join(f"{name}: {{root: DIR}}" for name in apart)
        return f"{override}: one name stands here; for several write 'datasets={{{mapping}}}'."
    if key in GROUPS:
        return f"{override}: one {key} at a time; give a command for each of {', '.join(apart)}."
    return f"{override}: several values stand in brackets: {key}=[{names}]."


def _name_of_variants(variants: Any, picked: str | None) -> str:
    """What a sweep without an ablation is called, and its folder in runs/: by its variants where that is short.

    >>> _name_of_variants(None, "sam_vit_b"), _name_of_variants(["a", "b"], None), _name_of_variants(["a b"], None)
    ('sam_vit_b', 'a+b', 'custom')
    """
    names = [variants] if isinstance(variants, str) else variants if isinstance(variants, list) else []
    names = names or ([picked] if picked else [])
    name = "+".join(dict.fromkeys(map(str, names)))
    return name if re.fullmatch(r"\w[\w.+-]*", name) and len(name) <= _LONGEST_NAME else UNNAMED


def overlay(base: DictConfig, extra: Mapping[str, Any], what: str) -> DictConfig:
    """Lay values over a configuration; a key that it does not have is the user's mistake.

    Raises:
        UserError: unknown key, with the near miss.
    """
    for key in extra:
        if key not in base:
            raise UserError(
                f"{what} has no setting {key!r}. {near_miss(str(key), [str(k) for k in base if k != '_target_'])}"
            )
    merged = OmegaConf.merge(base, dict(extra))
    assert isinstance(merged, DictConfig)
    return merged


def plain(config: Any) -> Any:
    """Resolved plain Python containers of a configuration node; UserError for an interpolation that leads nowhere."""
    return containers(config) if OmegaConf.is_config(config) else config


def build(config: Mapping[str, Any], what: str) -> Any:
    """Instantiate a `_target_` configuration.

    Raises:
        UserError: the class cannot be imported, does not take these arguments, or refuses their values.
    """
    try:
        return instantiate(at_home(resolved(with_starts(dict(config), what))), _convert_="all")
    except Exception as error:
        # Hydra wraps whatever the constructor raised; the cause is what the user needs to read.
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ is not None else error
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, ImportError):
            missing = install.innermost(cause)
            raise UserError(f"{what}: {_one_line(missing)}{install.advice(missing)}") from error
        if isinstance(cause, (ValueError, TypeError, OSError, SyntaxError, HydraException)):
            raise UserError(f"{what}: {_one_line(cause)}{fits.advice(config, cause)}") from error
        raise cause from error


def with_starts(config: dict[str, Any], what: str) -> dict[str, Any]:
    """The configuration of a data set with `starts=DIR` as that of the same data set with start masks around it."""
    if "starts" not in config or what.startswith(("variant", "protocol")):
        return config
    alone = {key: value for key, value in config.items() if key != "starts"}
    if config["starts"] is None:
        return alone
    return {"_target_": "harness.datasets.starts.WithStarts", "dataset": alone, "starts": str(config["starts"])}


def at_home(config: Any) -> Any:
    """The same configuration with the annotators' module where it is now; users' protocol files name the old place."""
    if isinstance(config, dict):
        return {key: at_home(value) for key, value in config.items()}
    if isinstance(config, list):
        return [at_home(value) for value in config]
    if isinstance(config, str) and config.startswith("harness.annotators."):
        return config.replace("harness.annotators.", "harness.clicking.annotators.", 1)
    return config


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {text}"


def _leaves(config: DictConfig, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key in map(str, config):
        name = f"{prefix}{key}"
        child = config._get_node(key)
        keys.append(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            keys += _leaves(child, f"{name}.")
    return keys


def _extend_python_path(folder: Path) -> None:
    """Make modules beside the user's YAML files importable here and in the measuring children."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    parts = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if str(folder) not in parts:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *parts])
