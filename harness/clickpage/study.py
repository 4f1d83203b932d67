"""A study: which samples a person clicks, in which order, with which variants, from a YAML file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.clickpage.pictures import FolderPictures, Pictures, SamplePictures
from harness.errors import UserError, near_miss
from harness.planning import user_yaml
from harness.planning.config import Config, build, plain
from harness.planning.environment import recorded
from harness.planning.plan import Variant, require_segmenter

ORDERS = ("listed", "shuffled")
_KEYS = ("title", "instructions", "dataset", "images", "samples", "order", "variants", "clicks", "iou", "truth", "out")
_USER = re.compile(r"[\w.-]{1,64}")
MOST_CLICKS = 1000


@dataclass(frozen=True)
class Study:
    """What a study's file says.

    Attributes:
        path: of the file.
        title, instructions: shown to the person.
        dataset: settings of the data set, with its name in `sweeps/dataset/` under `dataset`; {}: `images`.
        images: folder of images without truth, or "".
        samples: names, in order; None: all.
        first: only so many of the samples, the first ones; None: all.
        order: `listed`, or `shuffled`: each user has an order of their own, always the same.
        variants: name -> settings; `variant` among them names another file of `sweeps/variant/`.
        clicks: most clicks on a sample.
        iou, truth: whether the person may see the IoU, and the true outline.
        out: folder of the records.
    """

    path: Path
    title: str
    instructions: str
    dataset: Mapping[str, Any]
    images: str
    samples: tuple[str, ...] | None
    first: int | None
    order: str
    variants: Mapping[str, Mapping[str, Any]]
    clicks: int
    iou: bool
    truth: bool
    out: Path

    def pictures(self, root: Config, user: str) -> Pictures:
        """What this user clicks, in their order.

        Raises:
            UserError: an unknown data set or sample, or a wrong folder.
        """
        if self.images:
            folder = FolderPictures(self.images)
            folder.names = self._chosen(folder.names, folder.label, user)
            return folder
        settings = dict(self.dataset)
        label = str(settings.pop("dataset"))
        dataset = build(plain(root.load("dataset", label, settings)), f"{self.path}: dataset {label!r}")
        name = str(getattr(dataset, "name", label))
        return SamplePictures(dataset, name, self._chosen(dataset.names, name, user))

    def _chosen(self, names: Sequence[str], label: str, user: str) -> list[str]:
        chosen = list(names if self.samples is None else self.samples)
        for name in chosen:
            if name not in names:
                raise UserError(f"{self.path}: {label!r} has no sample {name!r}. {near_miss(name, names, '')}")
        chosen = chosen[: self.first]
        if self.order == "shuffled":
            seed = int.from_bytes(hashlib.sha256(f"{self.title}\n{user}".encode()).digest()[:8], "big")
            chosen = [chosen[i] for i in np.random.default_rng(seed).permutation(len(chosen))]
        return chosen

    def chosen_variants(self, root: Config) -> list[Variant]:
        """Its variants, not built yet; UserError for an unknown one or an unknown setting."""
        chosen = []
        for name, entry in self.variants.items():
            settings = dict(entry)
            node = root.load("variant", str(settings.pop("variant", name)), settings)
            config = plain(node)
            require_segmenter(name, config)
            chosen.append(Variant(name, config, recorded(node)))
        return chosen


def check_user(user: str) -> str:
    """A user's name; UserError unless it is 1 to 64 letters, digits, dots, dashes and underscores."""
    if not _USER.fullmatch(user):
        raise UserError(
            f"user={user!r}: a name of 1 to 64 letters, digits, '.', '-' and '_', which stands in every row and in "
            "file names; for example user=anna."
        )
    return user


def read(path: str) -> Study:
    """A study's file.

    Raises:
        UserError: no such file, an unknown key, or a value of another kind; the message names the file.
    """
    file = Path(path).expanduser()
    settings = user_yaml.load(file)
    for key in settings:
        if key not in _KEYS:
            raise UserError(
                f"{file}: unknown setting {key!r}. {near_miss(str(key), _KEYS, 'docs/clicking.md lists all.')}"
            )
    value = _Values(file, settings)
    samples = settings.get("samples")
    first = value.whole("samples") if isinstance(samples, int) else None
    dataset, images = value.settings("dataset"), value.text("images", "")
    if bool(dataset) == bool(images):
        raise UserError(
            f"{file}: give either `dataset: NAME`, or `dataset: {{dataset: NAME, root: DIR}}`, or `images: DIR`."
        )
    title = value.text("title", file.stem)
    return Study(
        path=file,
        title=title,
        instructions=value.text("instructions", ""),
        dataset=dataset,
        images=images,
        samples=None if samples is None or first is not None else value.names("samples"),
        first=first,
        order=value.one_of("order", ORDERS),
        variants=value.variants(),
        clicks=value.whole("clicks", 20),
        iou=value.truth("iou"),
        truth=value.truth("truth"),
        out=Path(value.text("out", f"runs/{file.stem}")).expanduser(),
    )


@dataclass(frozen=True)
class _Values:
    """Values of a file; every error names the file and the key."""

    file: Path
    given: Mapping[str, Any]

    def refuse(self, key: str, expected: str) -> UserError:
        return UserError(f"{self.file}: {key}={str(self.given.get(key))[:60]!r} is not {expected}.")

    def _is(self, key: str, kind: type, expected: str, default: Any) -> Any:
        value = self.given.get(key)
        if value is None:
            return default
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise self.refuse(key, expected)
        return value

    def text(self, key: str, default: str) -> str:
        return str(self._is(key, str, "a text; put it between quotes", default))

    def truth(self, key: str) -> bool:
        return bool(self._is(key, bool, "true or false", True))

    def whole(self, key: str, default: int = 0) -> int:
        value = int(self._is(key, int, "a whole number", default))
        if not 1 <= value <= MOST_CLICKS:
            raise self.refuse(key, f"a whole number from 1 to {MOST_CLICKS}")
        return value

    def one_of(self, key: str, names: Sequence[str]) -> str:
        value = self.text(key, names[0])
        if value not in names:
            raise UserError(f"{self.file}: {key}={value!r}. {near_miss(value, names)}")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        values = self._is(key, list, "a list of names, or a number", [])
        if not values or len(set(map(str, values))) != len(values):
            raise self.refuse(key, "a list of names, each once")
        return tuple(map(str, values))

    def settings(self, key: str) -> dict[str, Any]:
        value = self.given.get(key)
        if value is None or isinstance(value, str):
            return {} if value is None else {key: value}
        if not isinstance(value, dict) or not isinstance(value.get(key), str):
            raise self.refuse(key, f"a name, or settings with a name: {{{key}: folder, root: DIR}}")
        return self.no_class(key, value)

    def variants(self) -> dict[str, dict[str, Any]]:
        value = self.given.get("variants")
        if isinstance(value, str):
            value = [value]
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = {name: {} for name in value}
        mapping = value if isinstance(value, dict) else {}
        if not mapping or not all(v is None or isinstance(v, dict) for v in mapping.values()):
            raise self.refuse("variants", "a list of names, or name -> settings: {lite: {variant: inter2former_lite}}")
        return {str(name): self.no_class(str(name), settings or {}) for name, settings in mapping.items()}

    def no_class(self, key: str, settings: Mapping[Any, Any]) -> dict[str, Any]:
        """Settings, none of which says what code runs: a study may come from somebody else."""
        for name in settings:
            if str(name).startswith("_"):
                raise UserError(
                    f"{self.file}: {key} sets {str(name)!r}. A study names a file of variant/ or dataset/; put what "
                    "builds your own class into one, and give its folder by --config-dir DIR."
                )
        return {str(name): value for name, value in settings.items()}
