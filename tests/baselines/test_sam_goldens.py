"""SAM and SAM-HQ against the goldens of their official code, from files with the official names."""

from __future__ import annotations

import re

import pytest
import torch
from goldens import BASELINE_GOLDENS, seeded_normal
from goldens_baselines import fill, layouts, weight

from baselines import sam
from baselines._images import bilinear
from baselines._sam_hq_decoder import HqMaskDecoder
from baselines._sam_net import SamNet
from tests.baselines.sam_goldens import Golden, check_chains, check_episodes, restorer

KINDS = {"sam": sam.Sam, "sam_hq": sam.SamHQ}


def official_state(model: str, variant: str, size: int) -> dict[str, torch.Tensor]:
    """The released file of a variant by the rule; its positions are those of an input of `size`."""
    state = {}
    whole = sam.ARCHITECTURES[variant].whole
    for key, shape, dtype in layouts(model)[variant]["state_dict"]:
        if key == "image_encoder.pos_embed":
            shape = [1, size // 16, size // 16, shape[3]]
        elif match := re.fullmatch(r"image_encoder\.blocks\.(\d+)\.attn\.rel_pos_[hw]", key):
            shape = [size // 8 - 1, shape[1]] if int(match[1]) in whole else shape
        drawn = weight(model, key, shape, dtype)
        assert drawn is not None
        state[key] = torch.from_numpy(drawn)
    return state


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Segmenters from an official .pth file, one kept."""
    kept: dict = {}

    def get(model: str, variant: str, size: int) -> sam.Sam:
        if (model, variant, size) not in kept:
            kept.clear()
            path = tmp_path_factory.mktemp("weights") / f"{model}.pth"
            torch.save(official_state(model, variant, size), path)
            kept[model, variant, size] = KINDS[model](variant, weights=str(path), size=size)
            path.unlink()
        return kept[model, variant, size]

    return get


def with_image(*models):
    return [case for case in BASELINE_GOLDENS.cases(*models) if wants(case, models, image=True)]


def wants(case, models, image: bool) -> bool:
    (entry,) = case.values
    return entry is None or (entry["model"] in models and ("image_u8" in entry["tensors"]) == image)


@pytest.mark.parametrize("entry", with_image("sam", "sam_hq"))
@torch.no_grad()
def test_golden_from_the_image_on(entry, loaded):
    golden, meta = Golden(entry, BASELINE_GOLDENS.load(entry)), entry["meta"]
    segmenter = loaded(entry["model"], meta["variant"], meta["T"])
    assert segmenter.weights_status == "released"
    layers, hooks = segmenter.module.vision_encoder.layers, []

    def note(name):
        return lambda _, inputs, output: golden.check(output.permute(0, 3, 1, 2), name)

    hooks.append(layers[0].register_forward_pre_hook(lambda _, x: golden.check(x[0].permute(0, 3, 1, 2), "tokens")))
    for number, layer in enumerate(layers):
        hooks.append(layer.register_forward_hook(note(f"block{number}")))
    image = golden.tensors["image_u8"].numpy()
    golden.check(sam.prepare(image, meta["T"])[0], "input")
    embedding = segmenter.encode(image)
    for hook in hooks:
        hook.remove()
    golden.check(embedding.maps.image, "image_embed")
    if entry["model"] == "sam_hq":
        golden.check(embedding.maps.extras[0], "hq_features")
    frame = embedding.frame
    assert [frame.inner_height, frame.inner_width] == meta["resized"]
    scale = frame.inner_height / frame.height, frame.inner_width / frame.width
    check_chains(golden, segmenter.module, embedding.maps, scale, restorer(frame, meta["T"]))
    check_episodes(golden, segmenter, embedding)
    assert not golden.rest()


@pytest.mark.parametrize("entry", [c for c in BASELINE_GOLDENS.cases("sam_hq") if wants(c, ("sam_hq",), image=False)])
@torch.no_grad()
def test_golden_of_the_decoder_alone(entry):
    golden, meta = Golden(entry, BASELINE_GOLDENS.load(entry)), entry["meta"]
    height, width = meta["grid"]
    early = seeded_normal(meta["block2_seed"], (1, height, width, sam.ARCHITECTURES[meta["variant"]].width))
    image = seeded_normal(meta["embedding_seed"], (1, 256, height, width))
    decoder = HqMaskDecoder(early.shape[3])
    net = SamNet(decoder).eval().requires_grad_(False)
    fill(net, "sam_hq")
    torch.testing.assert_close(image[0, :4, 0, :8], golden.tensors["image_embed_head"], atol=0, rtol=0)
    torch.testing.assert_close(early[0, 0, :4, :8], golden.tensors["block2_head"], atol=0, rtol=0)
    detail = decoder.detail(image, early)
    golden.check(detail, "hq_features")
    check_chains(golden, net, net.encoded(image, detail), (1, 1), lambda low: bilinear(low, 1024, 1024))
    assert not golden.rest()


@pytest.mark.parametrize("model", KINDS)
def test_released_layout_has_the_parameters_of_its_parts(model):
    for variant, layout in layouts(model).items():
        with torch.device("meta"):
            net = sam.build(variant, quality=model == "sam_hq")
        counts = [sum(p.numel() for p in part.parameters()) for part in (net.encoder, net.prompt_encoder)]
        counts.append(sum(p.numel() for p in net.mask_decoder.parameters()))
        assert counts == list(layout["parts"].values())
        own = {key: list(value.shape) for key, value in net.state_dict().items() if not key.startswith("vision")}
        released = {key: shape for key, shape, _ in layout["state_dict"] if not key.startswith("image_encoder.")}
        assert own == released
        assert len(net.state_dict()) == len(layout["state_dict"])
