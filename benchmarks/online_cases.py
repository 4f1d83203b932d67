"""What the online step is measured on: label maps from real masks, and decoders to compare with.

The encoders are left out: tokens and edge maps are random, as their values change no shape. Which tokens are
looked at depends on the label map alone, which comes from a real mask; with random weights the coarse mask would be
noise, so that it is computed and then replaced by the true mask's, as a trained model's would nearly be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines._sam_hq_decoder import HqMaskDecoder
from baselines._sam_net import SamNet
from harness.clicking.annotators import Ritm
from harness.latency.workload import erroneous
from harness.sample import Sample
from inter2former.build import initialise
from inter2former.config import make_config
from inter2former.label_map import add_clicks, add_prediction, new_label_map
from inter2former.label_tokens import TOKEN, view_tokens
from inter2former.model import ImageState, Inter2Former

SHARES = (0.10, 0.35, 0.80)
"""Shares of the image that the DPE box takes."""
PREVIOUS_IOU = 0.93
"""How right the mask before the click is."""


@dataclass(frozen=True)
class Case:
    """One click to time.

    Attributes:
        name: such as "35 % later".
        share: part of the image in the DPE box.
        label: (H, W) uint8, as the decoder gets it.
        before: the label map before the click was written.
        click: in pixels.
        prediction: (H, W) bool, the mask that a step ends with.
        coarse: (1, 1, h, w) logits of the true mask.
    """

    name: str
    share: float
    label: np.ndarray
    before: np.ndarray
    click: tuple[int, int, bool]
    prediction: np.ndarray
    coarse: Tensor


class _Click:
    def __init__(self, y: int, x: int, positive: bool) -> None:
        self.y, self.x, self.positive = y, x, positive


def load_masks(folder: Path, count: int = 200) -> list[np.ndarray]:
    """Return the object masks of a folder, (H, W) bool, in the order of their names; an ellipse if there is none."""
    masks = []
    for path in sorted(folder.glob("*.png"))[:count] if folder.is_dir() else ():
        read = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if read is not None and (read > 127).any():
            masks.append(read > 127)
    if not masks:
        canvas = np.zeros((300, 400), np.uint8)
        cv2.ellipse(canvas, (200, 150), (150, 90), 20, 0, 360, 1, -1)
        masks = [canvas > 0]
    return masks


def place(mask: np.ndarray, size: int, share: float) -> np.ndarray | None:
    """Return a mask enlarged in a square so that the DPE box of a finished object takes this share, or None."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    height, width = crop.shape
    # The box is the object's, rounded to tokens, and one token more on each side: about 3 tokens in all.
    scale, area = np.sqrt(share * size**2 / (height * width)), share * size**2
    for _ in range(8):
        box = (height * scale + 3 * TOKEN) * (width * scale + 3 * TOKEN)
        scale *= np.sqrt(area / box)
    target = round(width * scale), round(height * scale)
    if max(target) > size or min(target) < 4 * TOKEN:
        return None
    big = cv2.resize(crop, target, interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((size, size), bool)
    top, left = (size - target[1]) // 2, (size - target[0]) // 2
    canvas[top : top + target[1], left : left + target[0]] = big > 0
    return canvas


def make_cases(masks: list[np.ndarray], size: int, share: float, seed: int = 0) -> list[Case]:
    """Return a first and a later click on the first mask that fits, its previous mask slightly wrong."""
    rng = np.random.default_rng(seed)
    placed = next(canvas for mask in masks if (canvas := place(mask, size, share)) is not None)
    truth = placed.astype(np.uint8)
    tokens = placed.reshape(size // TOKEN, TOKEN, size // TOKEN, TOKEN).any((1, 3))
    coarse = torch.where(torch.from_numpy(tokens), 5.0, -5.0)[None, None]
    cases = []
    label = new_label_map(size, size)
    prediction = np.zeros((size, size), bool)
    annotator = Ritm().start(Sample("case", np.zeros((size, size, 3), np.uint8), truth))
    for kind in ("first", "second", "later"):
        before, click = label.copy(), annotator.click(prediction)
        if click is None:
            raise ValueError(f"no error is left to click in a case of {share:.0%} of {size} px")
        add_clicks(label, [_Click(*click)])
        prediction = erroneous(placed, PREVIOUS_IOU, rng)
        box = view_tokens(label, False, "executed").box
        actual = box.width * box.height / (size // TOKEN) ** 2
        if kind != "second":
            cases.append(Case(f"{share:.0%} {kind}", actual, label.copy(), before, tuple(click), prediction, coarse))
        add_prediction(label, prediction)
    return cases


def make_model(routing: str, seed: int = 0, **switches: str) -> Inter2Former:
    """Return the paper's decoder with random weights and no encoder."""
    config = make_config("vit_b", routing=routing, **switches)
    model = Inter2Former(config, nn.Identity(), nn.Identity())
    initialise(model.neck, seed)
    initialise(model.decode_head, seed)
    return model.eval()


def make_state(model: Inter2Former, size: int) -> ImageState:
    """Return random tokens and edge maps (channels-last, as the edge detector's) of size x size pixels."""
    generator = torch.Generator().manual_seed(0)
    h = size // TOKEN
    edges = tuple(
        torch.randn(1, h * 2 ** (i + 1), h * 2 ** (i + 1), width, generator=generator).permute(0, 3, 1, 2)
        for i, width in enumerate(model.config.head)
    )
    tokens = torch.randn(1, h * h, model.config.dim, generator=generator)
    with torch.no_grad():
        return ImageState(tokens, edges, (h, h), model.decode_head.edge_terms(edges))


def with_known_coarse(model: Inter2Former, case: Case) -> Callable[[], None]:
    """Let the head compute its coarse mask and use the case's; returns what undoes it."""
    head = model.decode_head
    original = type(head).coarse

    def coarse(x: Tensor) -> Tensor:
        original(head, x)
        return case.coarse

    head.coarse = coarse  # type: ignore[method-assign]
    return lambda: head.__dict__.pop("coarse", None)


def step(model: Inter2Former, state: ImageState, case: Case) -> Callable[[], None]:
    """Return the model's work for one click: write the click, decode, update by the prediction."""

    def run() -> None:
        label = case.label
        add_clicks(label, [_Click(*case.click)])
        logits = model.decode(state, label)
        prediction = logits[0, 0].numpy() > 0
        add_prediction(case.before, prediction)

    return run


def sam_decoders(size: int = 1024) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield SAM ViT-B's and SAM-HQ's online step: one point and a mask prompt, upsampled to size x size.

    SAM's is transformers', the unit of the table; SAM-HQ's is ours, as transformers' is faulty (docs/foot-guns.md).
    """
    from transformers import SamConfig, SamModel, SamVisionConfig

    generator = torch.Generator().manual_seed(0)
    # The image encoder is not timed: as small as the class allows.
    tiny = {"num_hidden_layers": 1, "hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 1}
    tiny["global_attn_indexes"] = [0]
    embedding = torch.randn(1, 256, 64, 64, generator=generator)
    points = torch.tensor([[[[500.0, 500.0]]]])
    labels = torch.ones(1, 1, 1, dtype=torch.long)
    mask = torch.randn(1, 1, 256, 256, generator=generator)

    def prompts(model: nn.Module) -> tuple[Tensor, Tensor]:
        return model.prompt_encoder(input_points=points, input_labels=labels, input_boxes=None, input_masks=mask)

    def finish(low: Tensor) -> Tensor:
        return F.interpolate(low[:, 0].float(), (size, size), mode="bilinear", align_corners=False)

    sam = SamModel(SamConfig(vision_config=SamVisionConfig(**tiny).to_dict())).eval()
    positions = sam.get_image_wide_positional_embeddings()

    def sam_step() -> Tensor:
        sparse, dense = prompts(sam)
        low = sam.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )[0]
        return finish(low)

    yield "SAM ViT-B decoder", sam_step
    decoder = HqMaskDecoder(early=768)
    hq = SamNet(decoder).eval().requires_grad_(False)
    encoded = hq.encoded(embedding, decoder.detail(embedding, torch.randn(1, 64, 64, 768, generator=generator)))
    where, kinds = torch.tensor([[[500.0, 500.0]]]), torch.ones(1, 1, dtype=torch.long)

    def hq_step() -> Tensor:
        masks, _ = hq.decode(encoded, where, kinds, mask)
        return F.interpolate(masks[:, :1] + masks[:, 4:], (size, size), mode="bilinear", align_corners=False)

    yield "SAM-HQ ViT-B decoder", hq_step
