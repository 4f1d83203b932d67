"""Weights that come with the package, by name; each has a model card beside it (NAME.md).

A file may leave out what it shares with others and name another file, its base, for that: decoders that were trained on
one encoder share it so. It may also leave out the encoder's pretrained trunk, which has a package of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from inter2former.config import Config
from inter2former.weightfiles import BASE

__all__ = ["BASE", "DEFAULT", "FOLDER", "find", "locate", "names", "names_for"]

FOLDER = Path(__file__).resolve().parent
DEFAULT = "default"
_TRAINED_APART = {("dha", "full"): "dha_full", ("dha", "bsq"): "dha_bsq"}
"""Switch states that run on the weights of `dha=on`, but that the package may have own weights for."""
_OWN = {("dha", "vq"): "dha_vq", ("hmoe", "dense"): "hmoe_dense"}
"""Switch states that need weights of their own, and the ending of their file's name."""


def names() -> list[str]:
    """Names of the packaged weights, sorted; bases, which are no model alone, are not among them."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors") if not path.stem.endswith("-encoder"))


def names_for(config: Config) -> Iterator[str]:
    """Names that weights for a configuration may have, the fittest first: preset and switch states."""
    for endings in ({**_TRAINED_APART, **_OWN}, _OWN):
        yield "-".join(
            [config.preset, *(end for (switch, value), end in endings.items() if getattr(config, switch) == value)]
        )


def locate(weights: str | None, config: Config) -> str | None:
    """Turn the setting `weights` into a path.

    Args:
        weights: a path, the name of packaged weights, "default" for those that go with the configuration, or None.

    Returns:
        A path; None for random weights, also where the package has none for this configuration.
    """
    return find(weights, names_for(config))


def find(weights: str | None, defaults: Iterable[str]) -> str | None:
    """Do the same where "default" is the first of `defaults` that the package has."""
    if weights is None:
        return None
    known = names()
    name = next((name for name in (defaults if weights == DEFAULT else (weights,)) if name in known), None)
    if name is not None:
        return str(FOLDER / f"{name}.safetensors")
    return None if weights == DEFAULT else weights
