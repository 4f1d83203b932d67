"""Kept features of a frozen encoder: the same numbers, computed once."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.dense_lite import DenseLite
from baselines.sam_lite import SamLite
from harness.training import features
from harness.training.features import Features
from harness.training.trainee import trainee_of
from inter2former.segmenter import Inter2FormerSegmenter
from tests.harness.test_training_loop import TINY, state, trainer

FROZEN = dataclasses.replace(TINY, steps=4, freeze=("backbone.", "edge_detector."))


def trained(
    folder: Path, keep: Features | None, kind: Any, precision: str = "fp32", **variant: Any
) -> dict[str, Tensor]:
    settings = dataclasses.replace(FROZEN, precision=precision)
    torch.manual_seed(0)
    trainee = trainee_of(kind(**{"weights": None, **variant}), precision)
    trainee.keep = keep
    run = trainer(folder, settings, trainee)
    run.run(lambda _: None)
    return state(run)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", [Inter2FormerSegmenter, DenseLite, SamLite], ids=lambda k: k.__name__)
def test_training_on_kept_features_gives_the_same_weights(tmp_path: Path, kind: Any, precision: str) -> None:
    """Bit by bit: nothing kept, kept as it goes, and all found."""
    without = trained(tmp_path / "without", None, kind, precision)
    parts = 2 if kind is Inter2FormerSegmenter else 1  # the backbone, and the edge detector
    for name, found, made in (("cold", 0, 4 * parts), ("warm", 4 * parts, 0)):
        keep = Features(tmp_path / "features")
        kept = trained(tmp_path / name, keep, kind, precision)
        assert (keep.found, keep.made) == (found, made)
        assert [key for key, value in without.items() if not value.equal(kept[key])] == []
    assert features.size(tmp_path / "features") > 0


def test_another_decoder_finds_what_the_first_one_kept(tmp_path: Path) -> None:
    trained(tmp_path / "first", Features(tmp_path / "features"), Inter2FormerSegmenter)
    keep = Features(tmp_path / "features")
    trained(tmp_path / "second", keep, Inter2FormerSegmenter, dha="full")
    assert (keep.found, keep.made) == (8, 0)


class Counting(nn.Module):
    """Doubles its images times a weight; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0), requires_grad=False)
        self.calls = 0

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        half = (images * self.weight).to(torch.bfloat16)
        return images * self.weight, half.contiguous(memory_format=torch.channels_last)


def ask(keep: Features, part: Counting, images: Tensor) -> tuple[Tensor, ...]:
    return keep(part, images, lambda: part(images))


def test_values_types_and_layout_come_back(tmp_path: Path) -> None:
    part, images = Counting(), torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    first, again = ask(Features(tmp_path), part, images), ask(Features(tmp_path), part, images)
    assert part.calls == 1
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
    assert torch.equal(again[0], images * 2)


def test_other_weights_pixels_layout_and_precision_are_computed_anew(tmp_path: Path) -> None:
    part, images = Counting(), torch.rand(2, 3, 4, 5)
    ask(Features(tmp_path), part, images)
    ask(Features(tmp_path), part, images + 1)
    ask(Features(tmp_path), part, images.contiguous(memory_format=torch.channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        ask(Features(tmp_path), part, images)
    part.weight.fill_(3)
    assert torch.equal(ask(Features(tmp_path), part, images)[0], images * 3)
    assert part.calls == 5


def test_a_trained_part_is_never_kept(tmp_path: Path) -> None:
    part, images = Counting(), torch.rand(1, 3, 4, 4)
    part.weight.requires_grad_(True)
    assert ask(Features(tmp_path), part, images)[0].requires_grad
    ask(Features(tmp_path), part, images)
    assert part.calls == 2 and features.size(tmp_path) == 0


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    part, images = Counting(), torch.rand(1, 3, 4, 4)
    first = ask(Features(tmp_path), part, images)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    assert torch.equal(ask(Features(tmp_path), part, images)[0], first[0])
    assert part.calls == 2
    ask(Features(tmp_path), part, images)
    assert part.calls == 2


def test_a_full_disk_ends_the_keeping_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "save_file", full)
    part, keep = Counting(), Features(tmp_path)
    with pytest.warns(UserWarning, match="features are no longer kept under .*No space left"):
        ask(keep, part, torch.rand(1, 3, 4, 4))
    ask(keep, part, torch.rand(1, 3, 4, 4))
    assert part.calls == 2 and not list(tmp_path.rglob("*.part"))
