"""Weights that come with the package, by name; each has a model card beside it (NAME.md)."""

from __future__ import annotations

from pathlib import Path

from inter2former.config import Config

FOLDER = Path(__file__).resolve().parent
DEFAULT = "default"
_OWN = {("dha", "vq"): "dha_vq", ("hmoe", "dense"): "hmoe_dense"}
"""Switch states that need weights of their own, and the ending of their file's name."""


def names() -> list[str]:
    """Names of the packaged weights, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def name_for(config: Config) -> str:
    """Name of the weights that go with a configuration: the preset, and switch states with weights of their own."""
    endings = [ending for (switch, value), ending in _OWN.items() if getattr(config, switch) == value]
    return "-".join([config.preset, *endings])


def locate(weights: str | None, config: Config) -> str | None:
    """Turn the setting `weights` into a path.

    Args:
        weights: a path, the name of packaged weights, "default" for those that go with the configuration, or None.

    Returns:
        A path; None for random weights, also where the package has none for this configuration.
    """
    if weights is None:
        return None
    name = name_for(config) if weights == DEFAULT else weights
    if name in names():
        return str(FOLDER / f"{name}.safetensors")
    return None if weights == DEFAULT else weights
