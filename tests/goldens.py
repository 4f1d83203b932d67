"""Golden files: where they are, what they hold, and the weights that belong to them.

A folder of goldens has a `manifest.json` (`files`: one entry per file with name, kind, meta, tensors, tolerance)
beside its `.safetensors` files. Tests follow the manifest, so a further folder of the same form needs no change:

    from goldens import cases, load, assert_close

    @pytest.mark.parametrize("entry", cases("a_"))        # kinds that start so; skips when the folder is absent
    def test_canny_golden(entry):
        tensors = load(entry)
        ...
        assert_close(result, tensors["edge_map_0"], entry)

The functions below are those of `GOLDENS` (the model's goldens, `IS_BENCH_GOLDENS`). `BASELINE_GOLDENS` has the same
methods for `IS_BENCH_BASELINE_GOLDENS`; its entries have a `model` in place of a `kind`.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

PROJECT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """Return the folder of shared material: `IS_BENCH_SHARED`, else `../shared` beside the project."""
    return Path(os.environ.get("IS_BENCH_SHARED") or PROJECT.parent / "shared")


@dataclass(frozen=True)
class Goldens:
    """One folder of golden files; the environment variable `env` goes before the default place."""

    env: str
    name: str

    @property
    def folder(self) -> Path:
        return Path(os.environ.get(self.env) or shared_folder() / self.name)

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        path = self.folder / "manifest.json"
        return json.loads(path.read_text()) if path.is_file() else {"files": []}

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; `files` is empty when the folder is absent."""
        return self._manifest

    def cases(self, *kinds: str, **meta: Any) -> list[Any]:
        """Return pytest params (id = file name) of the entries whose kind (or model) starts with one of `kinds`.

        Keyword arguments select by equal values in the entry's `meta`. Without the folder, or without such a file,
        one param that skips with the reason.
        """
        found = [
            pytest.param(entry, id=Path(entry["file"]).stem)
            for entry in self.manifest()["files"]
            if (not kinds or str(entry.get("kind", entry.get("model"))).startswith(kinds))
            and all(entry["meta"].get(key) == value for key, value in meta.items())
        ]
        if found:
            return found
        state = "no such file in" if (self.folder / "manifest.json").is_file() else "no goldens at"
        reason = f"{'/'.join(kinds) or 'golden'}: {state} {self.folder} (set {self.env})"
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]

    def load(self, entry: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Return the tensors of one manifest entry."""
        return load_file(str(self.folder / entry["file"]))

    def read_json(self, name: str) -> Any:
        """Return a JSON file of the folder; skips the test when it is absent."""
        path = self.folder / name
        if not path.is_file():
            pytest.skip(f"no {name} at {self.folder} (set {self.env})")
        return json.loads(path.read_text())


GOLDENS = Goldens("IS_BENCH_GOLDENS", "goldens")
BASELINE_GOLDENS = Goldens("IS_BENCH_BASELINE_GOLDENS", "goldens_baselines")

manifest = GOLDENS.manifest
cases = GOLDENS.cases
load = GOLDENS.load


def tolerance(entry: dict[str, Any]) -> tuple[float, float]:
    """Return (absolute, relative) tolerance of an entry as its manifest states it; exact where it states none."""
    stated = entry["tolerance"]
    return float(stated.get("float_atol", 0.0)), float(stated.get("float_rtol", 0.0))


def assert_close(actual: torch.Tensor, expected: torch.Tensor, entry: dict[str, Any], what: str = "") -> None:
    """Assert equality within the entry's tolerance (exact for integers); the message says how far off and where."""
    assert actual.shape == expected.shape, f"{what}: shape {tuple(actual.shape)}, golden {tuple(expected.shape)}"
    atol, rtol = tolerance(entry) if expected.is_floating_point() else (0.0, 0.0)
    torch.testing.assert_close(
        actual.detach().to(expected.dtype),
        expected,
        atol=atol,
        rtol=rtol,
        msg=lambda message: f"{entry['file']} {what}: {message}",
    )


def normal(key: str, shape: Iterable[int]) -> np.ndarray:
    """Return the standard normal draw of a key (float64 in C order, then float32): both weight rules start from it."""
    generator = np.random.default_rng(zlib.crc32(key.encode()))
    return generator.standard_normal(tuple(shape)).astype(np.float32)


def weight(key: str, shape: Iterable[int], dtype: str = "float32") -> np.ndarray | None:
    """Return the value that the rule of the model's goldens gives a state-dict entry, None where it is not drawn."""
    shape = tuple(shape)
    if "int" in dtype or key.startswith("edge_detector.canny.") or key == "backbone.rope.freqs":
        return None
    draw = normal(key, shape)
    fan_in = shape[-1] if ".select_ffn_w" in key else math.prod(shape[1:])
    gain, offset = 1.0 / math.sqrt(fan_in), 0.0
    if key.endswith(".exp_bias"):
        gain = 0.05
    elif key.endswith(("pos_embed", "attn.padding", ".codebook", "ref_embeds.weight")):
        gain = 0.5
    elif key == "decode_head.mlp.6.bias":
        gain, offset = 0.02, -2.0
    elif ".select_ffn_b" in key:
        gain = 0.02
    elif ".select_ffn_w" in key:
        pass
    elif len(shape) == 1:
        gain, offset = 0.02, 1.0 if key.endswith(".weight") else 0.0
    elif key.startswith("decode_head.mlp."):
        gain = 2.5 / math.sqrt(fan_in)
    scaled = np.float32(gain) * draw
    return scaled if offset == 0.0 else np.float32(offset) + scaled


def _canny_filter(name: str, shape: list[int]) -> torch.Tensor:
    """Return a fixed filter of the edge detector (specification, section 6)."""
    if name in ("g_h", "g_v"):
        taps = np.exp(-0.5 * np.arange(-2.0, 3.0) ** 2)
        return torch.from_numpy((taps / taps.sum()).astype(np.float32)).reshape(shape)
    sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    if name in ("sobh", "sobv"):
        return (sobel if name == "sobh" else sobel.T).reshape(shape).contiguous()
    clockwise = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]
    differences = torch.zeros(8, 1, 3, 3)
    differences[:, 0, 1, 1] = 1.0
    for direction, (dy, dx) in enumerate(clockwise):
        differences[direction, 0, 1 + dy, 1 + dx] = -1.0
    return differences


def rule_tensor(key: str, shape: list[int], dtype: str = "float32") -> torch.Tensor:
    """Return one entry of the rule's state dict as a tensor, the fixed ones included."""
    drawn = weight(key, shape, dtype)
    if drawn is not None:
        return torch.from_numpy(np.ascontiguousarray(drawn)).reshape(shape)
    if "int" in dtype:
        return torch.zeros(shape, dtype=torch.int64)
    if key == "backbone.rope.freqs":
        return 10000.0 ** (-torch.arange(0, 32, 2).float() / 32)
    return _canny_filter(key.split(".")[2], shape)


def rule_state_dict(prefix: str = "") -> dict[str, torch.Tensor]:
    """Return the released layout (432 keys) filled by the rule, in the released order.

    With a prefix ("backbone.", "neck.", …) only its keys, and without the prefix.
    """
    layout = GOLDENS.read_json("state_dict_spec.json")["state_dict"]
    return {
        key[len(prefix) :]: rule_tensor(key, shape, dtype) for key, shape, dtype in layout if key.startswith(prefix)
    }


def fill_by_rule(module: torch.nn.Module, rule: Callable[[str, Iterable[int], str], np.ndarray | None]) -> None:
    """Overwrite the parameters and buffers of a module by `rule(key, shape, dtype)`; None leaves an entry as it is."""
    state = module.state_dict()
    for key, value in state.items():
        drawn = rule(key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
        if drawn is not None:
            state[key] = torch.from_numpy(np.ascontiguousarray(drawn)).reshape(value.shape)
    module.load_state_dict(state)


def network_input(image: torch.Tensor) -> torch.Tensor:
    """Return the (1, 3, H, W) float32 network input of an (H, W, 3) uint8 RGB image, without padding."""
    mean = torch.tensor([123.675, 116.28, 103.53])
    std = torch.tensor([58.395, 57.12, 57.375])
    return ((image.float() - mean) / std).permute(2, 0, 1)[None].contiguous()


def seeded_normal(seed: int, shape: Iterable[int]) -> torch.Tensor:
    """Return `default_rng(seed).standard_normal(shape)` as float32: the inputs that manifests give by seed."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32))
