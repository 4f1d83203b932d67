"""DLU against the goldens: boxes, crops, the empty mask, and a map large enough to show a poor GroupNorm."""

from __future__ import annotations

import pytest
import torch
from goldens import assert_close, cases, load, network_input, seeded_normal
from models import part_state, rule_head, rule_neck

from inter2former.edges import CannyNet
from inter2former.label_tokens import TOKEN

WIDTHS = (256, 64, 16, 4)


def edge_maps(seed: int, batch: int, grid: tuple[int, int]) -> list[torch.Tensor]:
    """Edge maps by the manifest's rule."""
    h, w = grid
    return [
        seeded_normal(seed + 10 + i, (batch, width, h * 2 ** (i + 1), w * 2 ** (i + 1)))
        for i, width in enumerate(WIDTHS)
    ]


@pytest.mark.parametrize("entry", cases("e_dlu"))
def test_dlu_golden(entry) -> None:
    tensors = load(entry)
    x = tensors["x"]
    edges = edge_maps(entry["meta"]["seed"], len(x), x.shape[2:])
    head, whole = rule_head(), rule_head(local=False)
    empty = torch.full_like(tensors["pre_mask"], -5.0)
    with torch.no_grad():
        coarse = head.coarse(x)
        assert_close(coarse, tensors["pre_mask"], entry, "coarse mask")
        assert [list(head.box(mask[0]).as_tuple()) for mask in coarse] == tensors["bbox"].tolist()
        assert_close(whole(x, edges)[0], tensors["full"], entry, "whole map")
        for name, mask in (
            ("local", None),
            ("local_gt01", tensors["gt01"]),
            ("local_gtlogits", tensors["gtlogits"]),
            ("local_empty", empty),
        ):
            logits, _ = head(x, edges, mask)
            assert_close(logits, tensors[name], entry, name)
            assert torch.equal(logits == -100, tensors[name] == -100), "the fill is exact"


@pytest.mark.parametrize("entry", cases("e_dlu"))
def test_dlu_stages_golden(entry) -> None:
    """The stages as they are written, on the crop of the first image."""
    tensors = load(entry)
    x = tensors["x"][:1]
    edges = edge_maps(entry["meta"]["seed"], len(tensors["x"]), x.shape[2:])
    head = rule_head()
    with torch.no_grad():
        box = head.box(tensors["pre_mask"][0, 0])
        x = x[..., box.slices[0], box.slices[1]]
        for number, (stage, edge) in enumerate(zip(head.upsamplers, edges, strict=True)):
            rows, columns = (box * 2 ** (number + 1)).slices
            x = stage(x, edge[:1, :, rows, columns])
            assert_close(x, tensors[f"local_stage{number}"], entry, f"stage {number}")


@pytest.mark.parametrize("entry", cases("z_large"))
def test_large_golden(entry) -> None:
    """1024x1024: GroupNorm over a million pixels, and the neck on 4096 tokens in both routings."""
    tensors, meta = load(entry), entry["meta"]
    height, width = meta["size"]
    h, w = height // TOKEN, width // TOKEN
    seed = meta["seed"]
    with torch.no_grad():
        edges = edge_maps(seed, 1, (h, w))
        mask = torch.full((1, 1, h, w), -5.0)
        mask[..., 5:50, 8:47] = 5.0
        logits, _ = rule_head()(seeded_normal(seed, (1, 256, h, w)), edges, mask)
        assert_close(logits[..., 80:800:12, 128:752:12], tensors["dlu_logits_sub"], entry, "dlu")
        x = seeded_normal(seed + 3, (1, 256, h, w)).flatten(2).transpose(1, 2).contiguous()
        label = torch.ones(height, width, dtype=torch.uint8)
        label[200:700, 260:640] = 3
        label[300:420, 300:410] = 2
        label[500:511, 500:511] = 0
        for routing in ("executed", "intended"):
            out, _, _ = rule_neck(routing)(x, (h, w), [label.numpy()])
            out = out.transpose(1, 2).unflatten(2, (h, w))
            assert_close(out[:, ::8, ::4, ::4], tensors[f"neck_{routing}_sub"], entry, routing)


@pytest.mark.parametrize("entry", cases("z_large"))
def test_large_edges_golden(entry) -> None:
    tensors = load(entry)
    detector = CannyNet(WIDTHS)
    detector.load_state_dict(part_state("edge_detector."))
    with torch.no_grad():
        maps = detector(network_input(tensors["image_u8"]))
    for index, (edge, channels, step) in enumerate(zip(maps, (16, 4, 1, 1), (4, 8, 16, 32), strict=True)):
        assert_close(edge[:, ::channels, ::step, ::step], tensors[f"edge_map_{index}_sub"], entry, f"map {index}")
