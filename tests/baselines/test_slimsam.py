"""SlimSAM: sizes of its "uniform" releases, and their transformers folders."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import SamConfig, SamModel

from baselines.sam import SLIM, Sam, SamHQ, build

# sam2.md, section 4: all parameters, and those of the image encoder. The table counts the position code (2 x 128
# random numbers, never trained), which is no parameter here.
COUNTS = {"slimsam_50": (27962032, 23897216), "slimsam_77": (9723784, 5658968)}
WIDTHS = {"slimsam_50": (384, 1536), "slimsam_77": (168, 696)}


@pytest.mark.parametrize("model", SLIM)
def test_parameter_counts(model):
    with torch.device("meta"):
        module = build(model)
    total = sum(parameter.numel() for parameter in module.parameters())
    assert (total + 2 * 128, sum(p.numel() for p in module.encoder.parameters())) == COUNTS[model]


@pytest.mark.parametrize("model", SLIM)
def test_a_transformers_folder_gives_its_embedding(model, tmp_path):
    """The folder of a SamModel with the released widths, at a small side: loaded strictly, embedding as SamModel's."""
    width, mlp = WIDTHS[model]
    vision = {"hidden_size": width, "mlp_dim": mlp, "global_attn_indexes": [2, 5, 8, 11], "image_size": 64}
    torch.manual_seed(1)
    reference = SamModel(SamConfig(vision_config=vision, prompt_encoder_config={"image_size": 64})).eval()
    with torch.no_grad():  # transformers' own values give an embedding of 0
        for parameter in reference.parameters():
            parameter.normal_(0, 1 / math.sqrt(max(1, parameter[0].numel())))
    reference.save_pretrained(tmp_path)
    segmenter = Sam(model, weights=str(tmp_path), size=64)
    assert segmenter.weights_status == "released"
    square = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected, result = reference.get_image_embeddings(square), segmenter.module.encoder(square).last_hidden_state
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert expected.std() > 0.1
    with pytest.raises(ValueError, match="do not fit"):
        Sam("vit_b", weights=str(tmp_path), size=64)


def test_only_plain_sam_is_slim():
    with pytest.raises(ValueError, match="choose one of vit_b, vit_l, vit_h$"):
        SamHQ("slimsam_50")
    with pytest.raises(ValueError, match="vit_h, slimsam_50, slimsam_77"):
        Sam("slimsam_60")
