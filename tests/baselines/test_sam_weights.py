"""Weights of SAM and SAM-HQ: sizes, the released names, transformers' names, files that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines import _sam_weights, _weights, sam
from tests.baselines.sam_tiny import DEPTH, KINDS, SIZE, TINY, answers, official_state, picture, tiny  # noqa: F401


# Parameters of the released files: 93,735,472 / 312,342,832 / 641,090,608 (segment-anything's own count).
@pytest.mark.parametrize("model, count", [("vit_b", 93735472), ("vit_l", 312342832), ("vit_h", 641090608)])
def test_parameter_counts(model, count):
    with torch.device("meta"):
        assert _weights.count(sam.build(model)) == count
        # Hand count of what SAM-HQ adds: token 256; perceptron 2 (256² + 256) + 256·32 + 32; from the ViT: 2x2
        # transposed convolutions w→256 and 256→32 with a norm; from the embedding: 256→64→32; on masks: 32→64→32, 3x3.
        width = sam.ARCHITECTURES[model].width
        added = 256 + 2 * (256 * 256 + 256) + 256 * 32 + 32
        added += 4 * width * 256 + 256 + 2 * 256 + 4 * 256 * 32 + 32
        added += 4 * 256 * 64 + 64 + 2 * 64 + 4 * 64 * 32 + 32
        added += 9 * 32 * 64 + 64 + 2 * 64 + 9 * 64 * 32 + 32
        assert _weights.count(sam.build(model, quality=True)) == count + added


def original_keys(depth: int, quality: bool) -> set[str]:
    """Names in the released .pth files, written down from segment-anything's and SAM-HQ's module trees."""

    def both(*names):
        return {f"{name}.{end}" for name in names for end in ("weight", "bias")}

    keys = {"image_encoder.pos_embed"} | both("image_encoder.patch_embed.proj")
    for i in range(depth):
        block = f"image_encoder.blocks.{i}"
        keys |= both(*(f"{block}.{n}" for n in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.lin1", "mlp.lin2")))
        keys |= {f"{block}.attn.rel_pos_h", f"{block}.attn.rel_pos_w"}
    keys |= {"image_encoder.neck.0.weight", "image_encoder.neck.2.weight"}
    keys |= both("image_encoder.neck.1", "image_encoder.neck.3")
    prompt = "prompt_encoder"
    keys |= {f"{prompt}.pe_layer.positional_encoding_gaussian_matrix", f"{prompt}.not_a_point_embed.weight"}
    keys |= {f"{prompt}.no_mask_embed.weight", *(f"{prompt}.point_embeddings.{i}.weight" for i in range(4))}
    keys |= both(*(f"{prompt}.mask_downscaling.{i}" for i in (0, 1, 3, 4, 6)))
    decoder = "mask_decoder"
    keys |= {f"{decoder}.iou_token.weight", f"{decoder}.mask_tokens.weight"}
    projections = ("q_proj", "k_proj", "v_proj", "out_proj")
    for i in range(2):
        layer = f"{decoder}.transformer.layers.{i}"
        for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
            keys |= both(*(f"{layer}.{attention}.{p}" for p in projections))
        keys |= both(*(f"{layer}.norm{n}" for n in (1, 2, 3, 4)), f"{layer}.mlp.lin1", f"{layer}.mlp.lin2")
    keys |= both(*(f"{decoder}.transformer.final_attn_token_to_image.{p}" for p in projections))
    keys |= both(f"{decoder}.transformer.norm_final_attn", *(f"{decoder}.output_upscaling.{i}" for i in (0, 1, 3)))
    heads = [f"output_hypernetworks_mlps.{i}" for i in range(4)] + ["iou_prediction_head"]
    if quality:
        heads.append("hf_mlp")
        keys |= {f"{decoder}.hf_token.weight"}
        for name in ("compress_vit_feat", "embedding_encoder", "embedding_maskfeature"):
            keys |= both(*(f"{decoder}.{name}.{i}" for i in (0, 1, 3)))
    return keys | both(*(f"{decoder}.{head}.layers.{i}" for head in heads for i in range(3)))


@pytest.mark.parametrize("kind", KINDS)
def test_original_names_cover_the_module_exactly(kind):
    module = kind(model="tiny", size=SIZE).module
    renamed = _sam_weights.named(dict.fromkeys(original_keys(DEPTH, kind.quality), torch.zeros(1)))
    assert set(renamed) == set(module.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_original_file_gives_the_same_scores(kind, tmp_path):
    segmenter = kind(model="tiny", size=SIZE, seed=3)
    original = official_state(segmenter)
    assert set(original) == original_keys(DEPTH, kind.quality)
    path = tmp_path / "sam.pth"
    torch.save(original, path)
    again = kind(model="tiny", size=SIZE, weights=str(path))
    assert again.weights_status == "released"
    for a, b in zip(answers(segmenter, picture()), answers(again, picture()), strict=True):
        np.testing.assert_array_equal(a, b)


def transformers_model(quality: bool):
    """transformers' own model of the tiny architecture: what its folders hold."""
    from transformers import SamConfig, SamHQConfig, SamHQModel, SamModel

    vision = {"hidden_size": TINY.width, "num_hidden_layers": DEPTH, "num_attention_heads": TINY.heads}
    vision |= {"global_attn_indexes": list(TINY.whole), "image_size": SIZE}
    prompt = {"image_size": SIZE}
    if quality:
        decoder = {"vit_dim": TINY.width}
        config = SamHQConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
        return SamHQModel(config)
    return SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt))


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_folder_loads_every_entry(kind, tmp_path):
    model = transformers_model(kind.quality)
    model.save_pretrained(tmp_path)
    state = kind(model="tiny", size=SIZE, weights=str(tmp_path)).module.state_dict()
    theirs = model.state_dict()
    decoder, prompt = "mask_decoder", "prompt_encoder"
    pairs = {
        f"{prompt}.pe_layer.positional_encoding_gaussian_matrix": "shared_image_embedding.positional_embedding",
        f"{prompt}.point_embeddings.2.weight": f"{prompt}.point_embed.2.weight",
        f"{prompt}.mask_downscaling.4.bias": f"{prompt}.mask_embed.layer_norm2.bias",
        f"{decoder}.transformer.layers.1.norm4.weight": f"{decoder}.transformer.layers.1.layer_norm4.weight",
        f"{decoder}.output_upscaling.3.weight": f"{decoder}.upscale_conv2.weight",
    }
    heads = {f"output_hypernetworks_mlps.{i}": f"output_hypernetworks_mlps.{i}" for i in range(4)}
    heads["iou_prediction_head"] = "iou_prediction_head"
    if kind.quality:
        heads["hf_mlp"] = "hq_mask_mlp"
        pairs[f"{decoder}.embedding_maskfeature.3.weight"] = f"{decoder}.mask_conv2.weight"
        pairs[f"{decoder}.compress_vit_feat.0.weight"] = f"{decoder}.compress_vit_conv1.weight"
    for ours, their in heads.items():  # the middle layer is their layers.0
        for number, layer in enumerate(("proj_in", "layers.0", "proj_out")):
            pairs[f"{decoder}.{ours}.layers.{number}.weight"] = f"{decoder}.{their}.{layer}.weight"
    for own, other in pairs.items():
        assert (state[own] == theirs[other]).all(), own
    assert sum(value.numel() for value in state.values()) == sum(
        value.numel() for key, value in theirs.items() if key != "prompt_encoder.shared_embedding.positional_embedding"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_own_file_gives_the_same_scores(kind, tmp_path):
    segmenter = kind(model="tiny", size=SIZE, seed=3)
    segmenter.save(str(tmp_path / "own.safetensors"))
    again = kind(model="tiny", size=SIZE, weights=str(tmp_path / "own.safetensors"))
    assert again.weights_digest == segmenter.weights_digest
    for a, b in zip(answers(segmenter, picture()), answers(again, picture()), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_weights_end_in_one_line(tmp_path):
    state = sam.Sam(model="tiny", size=SIZE).module.state_dict()
    (tmp_path / "empty").mkdir()
    torch.save({k: v for k, v in state.items() if "neck" not in k}, tmp_path / "missing.pth")
    good = tmp_path / "good.pth"
    torch.save(state, good)
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    for file, named in {
        "nowhere.pth": "does not exist",
        "empty": "model.safetensors",
        "missing.pth": "vision_encoder.neck.conv1.weight",
        "cut.pth": "cannot be read",
    }.items():
        with pytest.raises(_weights.WeightsError, match=named) as caught:
            sam.Sam(model="tiny", size=SIZE, weights=str(tmp_path / file))
        assert "\n" not in str(caught.value)
    with pytest.raises(_weights.WeightsError, match="mask_decoder.hf_token.weight"):
        sam.SamHQ(model="tiny", size=SIZE, weights=str(good))
