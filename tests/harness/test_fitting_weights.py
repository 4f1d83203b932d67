"""A file of weights that does not fit says whose it is; expected: names and shapes of the released files (goldens)."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from baselines import _weights
from harness import cards
from harness.errors import UserError
from harness.planning import fits, install
from harness.planning.config import build

SHARED = Path(os.environ.get("IS_BENCH_SHARED") or Path(__file__).resolve().parents[3] / "shared")
# Golden list, form in it, variants. S1 and S2 of FocalClick have the same names and shapes.
_B0 = "focalclick_segformer_b0"
RELEASED = (
    ("goldens/state_dict_spec", "", "inter2former_vit_b"),
    ("goldens_baselines/sam_state_dict", "vit_b", "sam_vit_b"),
    ("goldens_baselines/sam_hq_state_dict", "vit_b", "sam_hq_vit_b"),
    ("goldens_baselines/mobilesam_state_dict", "vit_t", "mobilesam"),
    ("goldens_baselines/efficientsam_state_dict", "vitt", "efficientsam_ti"),
    ("goldens_baselines/efficientsam_state_dict", "vits", "efficientsam_s"),
    ("goldens_baselines/sam2_tiny_state_dict", "tiny", "sam2_1_hiera_tiny"),
    ("goldens_baselines/ritm_hrnet18s_state_dict", "", "ritm_hrnet18s"),
    ("goldens_baselines/ritm_hrnet18_state_dict", "", "ritm_hrnet18"),
    ("goldens_baselines/ritm_hrnet32_state_dict", "", "ritm_hrnet32"),
    ("goldens_baselines/segnext_state_dict", "vitb_sax1", "segnext_sax1"),
    ("goldens_baselines/segnext_state_dict", "vitb_sax2", "segnext_sax2"),
    ("goldens_baselines/interformer_state_dict", "interformer_light", "interformer_light"),
    ("goldens_baselines/hrsam_state_dict", "hrsam", "hrsam"),
    ("goldens_baselines/hrsam_state_dict", "hrsam_plusplus", "hrsam_plusplus"),
    ("goldens_baselines/simpleclick_state_dict", "vit_xtiny", "simpleclick_vit_xtiny"),
    ("goldens_baselines/simpleclick_state_dict", "vit_b", "simpleclick_vit_b"),
    ("goldens_baselines/simpleclick_state_dict", "vit_l", "simpleclick_vit_l"),
    ("goldens_baselines/simpleclick_state_dict", "vit_h", "simpleclick_vit_h"),
    ("goldens_baselines/focalclick_state_dict", "segformerB0_S2", f"{_B0}_s1 {_B0}_s2"),
    ("goldens_baselines/focalclick_state_dict", "segformerB3_S2", "focalclick_segformer_b3_s2"),
    ("goldens_baselines/focalclick_state_dict", "hrnet18s_S2", "focalclick_hrnet18s_s1 focalclick_hrnet18s_s2"),
)  # fmt: skip


class Misfit(ValueError):
    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__("does not fit")
        self.shapes = shapes


def released(file: str, form: str) -> dict[str, tuple[int, ...]]:
    path = SHARED / f"{file}.json"
    if not path.exists():
        pytest.skip(f"no {path.name} (set IS_BENCH_SHARED)")
    listed: dict[str, Any] = json.loads(path.read_text())
    listed = listed["variants"][form] if form else listed
    return {name: tuple(shape) for name, shape, *_ in listed["state_dict"]}


@pytest.mark.parametrize(("file", "form", "names"), RELEASED, ids=[entry[2] for entry in RELEASED])
def test_released_weights_name_their_variant(file: str, form: str, names: str) -> None:
    shapes = released(file, form)
    other = "baselines.segnext.SegNext" if "segnext" not in file else "baselines.ritm.Ritm"
    said = fits.advice({"_target_": other}, Misfit(shapes))
    assert said == f"; they fit variant={' or variant='.join(names.split())}"


@pytest.mark.parametrize("name", ["sam_vit_l", "sam_vit_h", "sam_hq_vit_h", "slimsam_77", "sam2_1_hiera_large"])
def test_forms_without_a_golden_list_know_their_own(name: str) -> None:
    """Names and shapes of the network as it is built, since no list of the released file is at hand."""
    from baselines._sam2_build import build_sam2
    from baselines.sam import build as build_sam

    card = cards.load()[name]
    model = str(card.settings["model"])
    with torch.device("meta"):
        module = build_sam2(model, 1024) if "hiera" in name else build_sam(model, 1024, "hq" in name)
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    assert fits.advice({"_target_": "baselines.ritm.Ritm"}, Misfit(shapes)) == f"; they fit variant={name}"
    assert sum(p.numel() for p in module.parameters()) == card.parameters


@pytest.mark.parametrize("name", ["inter2former_lite", "dense_lite", "sam_lite"])
def test_the_packages_own_weights_know_their_variant(name: str) -> None:
    segmenter = build(dict(cards.load()[name].settings), name)
    shapes = {key: tuple(value.shape) for key, value in segmenter.module.state_dict().items()}
    assert fits.advice({"_target_": "baselines.ritm.Ritm"}, Misfit(shapes)) == f"; they fit variant={name}"
    trunk = {key: shape for key, shape in shapes.items() if not key.startswith("backbone.trunk.")}
    assert fits.advice({"_target_": "baselines.ritm.Ritm"}, Misfit(trunk)) == f"; they fit variant={name}"


def test_another_size_is_named_by_its_setting() -> None:
    shapes = released("goldens_baselines/sam_state_dict", "vit_b")
    config = {**cards.load()["sam_vit_b"].settings, "size": 512, "weights": "x.pth"}
    assert fits.advice(config, Misfit(shapes)) == "; they are of sam_vit_b with size=1024"


def test_asking_everybody_is_cheap() -> None:
    """Imports apart, every network is built without memory in under 3 seconds of this process's time."""
    assert fits.advice({"_target_": "x.Y"}, Misfit({"a": (1,)}))  # imports
    _weights.skeleton.cache_clear()
    begin = time.process_time()
    fits.advice({"_target_": "x.Y"}, Misfit({"a": (1,)}))
    assert time.process_time() - begin < 3


def test_weights_of_nobody_and_errors_of_another_kind() -> None:
    assert fits.advice({"_target_": "x.Y"}, Misfit({"a": (1,)})) == "; they fit no packaged variant"
    assert fits.advice({"_target_": "x.Y"}, ValueError("no such file")) == ""


def zeros(file: str, form: str) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in released(file, form).items()}


@pytest.mark.parametrize(
    ("config", "file", "form", "words"),
    [
        ("focalclick_hrnet18s_s2", "ritm_hrnet18s_state_dict", "", "they fit variant=ritm_hrnet18s"),
        ("ritm_hrnet18s", "simpleclick_state_dict", "vit_xtiny", "they fit variant=simpleclick_vit_xtiny"),
        ("simpleclick_vit_b", "simpleclick_state_dict", "vit_xtiny", "they fit variant=simpleclick_vit_xtiny"),
        ("mobilesam", "efficientsam_state_dict", "vitt", "they fit variant=efficientsam_ti"),
        ("inter2former_lite", "ritm_hrnet18s_state_dict", "", "they fit variant=ritm_hrnet18s"),
        ("sam_lite", "mobilesam_state_dict", "vit_t", "they fit variant=mobilesam"),
        ("sam2_1_hiera_small", "sam2_tiny_state_dict", "tiny", "they fit variant=sam2_1_hiera_tiny"),
        ("sam_vit_b", "mobilesam_state_dict", "vit_t", "they fit variant=mobilesam"),
    ],
)
def test_a_real_file_ends_in_one_line(config: str, file: str, form: str, words: str, tmp_path: Path) -> None:
    save_file(zeros(f"goldens_baselines/{file}", form), str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError) as error:
        build({**cards.load()[config].settings, "weights": str(tmp_path / "w.safetensors")}, f"variant {config!r}")
    message = str(error.value)
    assert message.endswith(words) and "\n" not in message and "nearest to" in message and len(message) < 1500


@pytest.mark.parametrize(
    ("lost", "extra"),
    [
        ("maps_transform.0.bias", "maps_transform.0.bais"),
        ("maps_transform.0.bias", None),
        (None, "maps_transform.9.bias"),
    ],
)
def test_keys_that_do_not_fit_are_named_with_the_nearest(lost: str | None, extra: str | None, tmp_path: Path) -> None:
    state = zeros("goldens_baselines/ritm_hrnet18s_state_dict", "")
    if lost is not None:
        state.pop(lost)
    if extra is not None:
        state[extra] = torch.zeros(16)
    save_file(state, str(tmp_path / "w.safetensors"))
    with pytest.raises(UserError, match="nearest to") as error:
        build({**cards.load()["ritm_hrnet18s"].settings, "weights": str(tmp_path / "w.safetensors")}, "ritm")
    key, near = re.search(r"nearest to (\S+) is ([\w.]+)", str(error.value)).groups()  # type: ignore[union-attr]
    assert key == (lost or extra) and near.startswith("maps_transform.") and (extra is None or near in (extra, near))
    assert near == extra or lost is None or extra is None


# The smallest member of each family: building the others differs in nothing that matters here.
FAMILIES = (
    "ritm_hrnet18s", "simpleclick_vit_xtiny", "focalclick_segformer_b0_s1", "mobilesam", "efficientsam_ti",
    "slimsam_77", "sam_hq_vit_b", "sam2_1_hiera_tiny", "sam3_tracker", "segnext_sax1", "interformer_light", "hrsam",
    "inter2former_vit_b", "inter2former_lite", "dense_lite", "sam_lite",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_files_that_are_no_weights(name: str, tmp_path: Path) -> None:
    """Truncated, absent, a folder of transformers without weights: one line that names the file, for every family."""
    state = {f"block.{number}.weight": torch.zeros(64, 64) for number in range(8)}
    torch.save(state, tmp_path / "whole.pth")
    save_file(state, str(tmp_path / "whole.safetensors"))
    for kind in ("pth", "safetensors"):
        (tmp_path / f"cut.{kind}").write_bytes((tmp_path / f"whole.{kind}").read_bytes()[:40_000])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    for file in ("cut.pth", "cut.safetensors", "absent.pth", "folder", "whole.pth"):
        with pytest.raises(UserError) as error:
            build({**cards.load()[name].settings, "weights": str(tmp_path / file)}, f"variant {name!r}")
        message = str(error.value)
        assert "\n" not in message and file in message and name in message and len(message) < 1500, message
    assert "fit no packaged variant" in message


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["transformers>=4.50", "openvino>=2024; extra == 'runtimes'", "PyYAML>=5"]
    monkeypatch.setattr(install.metadata, "requires", lambda _: needs)
    error = ModuleNotFoundError("No module named 'openvino.runtime'", name="openvino.runtime")
    assert install.advice(error).endswith("pip install 'interactive-segmentation-bench[runtimes]'")
    assert install.advice(ImportError("cannot import name 'X'", name="transformers")).endswith(
        "pip install -U 'transformers>=4.50'"
    )
    assert install.advice(ImportError("no name")) == "" == install.advice(ImportError("", name="unknown"))


def test_a_system_without_its_package_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import baselines

    for name in [n for n in sys.modules if n.startswith(("baselines.sam2", "baselines._sam2"))]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(baselines, name.removeprefix("baselines."), raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="pip install -U 'transformers") as error:
        build(dict(cards.load()["sam2_1_hiera_tiny"].settings), "variant 'sam2_1_hiera_tiny'")
    assert "\n" not in str(error.value)
