"""Inter2Former: encode an image once, then decode a label map at each click.

    image --encoder--> tokens (stride 16) ---+--> neck: DPE, then blocks of DHA and HMoE --> head: DLU -->
          logits --edge detector--> edge maps ------|-----------------------------------------------^
    label map -------------------------------^

`encode` and `decode` are the two halves that are timed apart. `decode_for_training` is the same computation with the
training forms: straight-through quantisation, expert balancing, the whole map upsampled and a coarse mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from inter2former.attention import Attention, stack
from inter2former.config import Config
from inter2former.experts import DenseFFN, HMoE
from inter2former.label_tokens import TOKEN, TokenView, view_tokens
from inter2former.losses import coarse_target, normalised_focal_loss
from inter2former.naming import flatten_child
from inter2former.prompt_embedding import PromptEmbedding
from inter2former.upsampling import DecodeHead


@dataclass(frozen=True)
class ImageState:
    """What is computed once per image; decoding never changes it.

    Attributes:
        tokens: (B, h * w, dim), row by row.
        edges: edge maps, coarsest first, (B, C_i, 2^(i+1) h, 2^(i+1) w).
        grid: (h, w).
        terms: per image, what upsampling needs of the edge maps beside themselves; None when encoded for
            training.
    """

    tokens: Tensor
    edges: tuple[Tensor, ...]
    grid: tuple[int, int]
    terms: list[list[Tensor]] | None = None


class TrainingOutput(NamedTuple):
    """Logits (B, 1, H, W), coarse logits (B, 1, h, w) and quantisation loss () of `decode_for_training`."""

    logits: Tensor
    coarse: Tensor
    vq_loss: Tensor


class Block(nn.Module):
    """A decoder block: attention, then feed-forward, each on normalised tokens with a residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        dim = config.dim
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, config.head_dim, config.code_bits, config.dha)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn: HMoE | DenseFFN
        if config.hmoe == "dense":
            self.ffn = DenseFFN(dim, config.hidden)
        else:
            self.ffn = HMoE(dim, config.expert_hidden, config.experts, routed=config.hmoe == "on")
        flatten_child(self, "attention")

    def unused_parameters(self) -> list[nn.Parameter]:
        """Return parameters that are kept for other states of the switches only."""
        unused: list[nn.Parameter] = []
        if self.attention.kind == "full":
            unused += self.attention.bsq_attn.parameters()
        if isinstance(self.ffn, HMoE) and not self.ffn.routed:
            used = {id(p) for part in (self.ffn.shared_ffn, self.ffn.shared_ln) for p in part.parameters()}
            unused += [parameter for parameter in self.ffn.parameters() if id(parameter) not in used]
        return unused

    def forward(self, x: Tensor, grid: tuple[int, int], boundary: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map tokens (B, h * w, dim), given each image's boundary tokens, to tokens and quantisation loss.

        Unless gradients are wanted, x is overwritten.
        """
        x, loss = self.attention(x, self.norm1(x), grid, boundary)
        rows = torch.cat([rows + index * x.shape[1] for index, rows in enumerate(boundary)])
        flat = x.flatten(0, 1)
        return self.ffn(flat, self.norm2(flat), rows).view_as(x), loss


class Neck(nn.Module):
    """DPE and the decoder blocks: tokens of the image and a label map -> tokens of the mask."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.dpe = PromptEmbedding(config.label_dim, config.stem, whole=config.dpe == "off")
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        flatten_child(self, "dpe")

    def view(self, label: np.ndarray) -> TokenView:
        """Return box and boundary tokens of one label map (H, W) uint8."""
        return view_tokens(label, self.config.dpe == "off", self.config.routing)

    def forward(
        self, tokens: Tensor, grid: tuple[int, int], labels: Sequence[np.ndarray]
    ) -> tuple[Tensor, Tensor, list[TokenView]]:
        """Decode tokens (B, h * w, dim) with one label map (16 h, 16 w) uint8 per image.

        Returns:
            tokens (B, h * w, dim), the quantisation loss, and what was looked at.
        """
        views = [self.view(label) for label in labels]
        x = stack([self.dpe(x, label, view.box) for x, label, view in zip(tokens, labels, views, strict=True)])
        boundary = [torch.from_numpy(np.flatnonzero(view.boundary)).to(x.device) for view in views]
        losses = []
        for block in self.blocks:
            x, loss = block(x, grid, boundary)
            losses.append(loss)
        return x, torch.stack(losses).mean(), views


class EdgeTerms(nn.Module):
    """Prepares the edge maps' share of the upsampling: a module, so that clocks and counters see it as a part."""

    def forward(self, head: DecodeHead, edges: Sequence[Tensor]) -> list[list[Tensor]]:
        """Return `DecodeHead.edge_terms` of edge maps (B, C_i, H_i, W_i)."""
        return head.edge_terms(edges)


class Inter2Former(nn.Module):
    """The model: parts are passed in, so that variants can share an encoder and an edge detector.

    Args:
        config: sizes and switches.
        backbone: image (B, 3, H, W), normalised -> (B, dim, H / 16, W / 16).
        edge_detector: image -> four edge maps, coarsest first.
    """

    def __init__(self, config: Config, backbone: nn.Module, edge_detector: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.backbone = backbone
        self.neck = Neck(config)
        self.decode_head = DecodeHead(config.head, config.dlu == "on", config.coarse_threshold)
        self.edge_detector = edge_detector
        self.edge_terms = EdgeTerms()

    def encode(self, image: Tensor) -> ImageState:
        """Encode normalised images (B, 3, H, W), H and W multiples of 16."""
        encoded = self.backbone(image)
        # The lite encoder also gives fine maps, which join the edge maps of the coarser strides.
        embedding, fine = encoded if isinstance(encoded, tuple) else (encoded, ())
        edges = self.edge_detector(image)
        edges = tuple(edge + fine[j] if j < len(fine) else edge for j, edge in enumerate(edges))
        grid = embedding.shape[2], embedding.shape[3]
        terms = None if torch.is_grad_enabled() else self.edge_terms(self.decode_head, edges)
        return ImageState(embedding.flatten(2).transpose(1, 2).contiguous(), edges, grid, terms)

    def decode(
        self,
        state: ImageState,
        label: Tensor | np.ndarray,
        coarse: Tensor | None = None,
        trace: dict[str, Any] | None = None,
    ) -> Tensor:
        """Return logits (B, 1, H, W) for label maps; the object is where they exceed 0.

        Args:
            state: of `encode`.
            label: (B, 1, H, W) or (H, W) uint8.
            coarse: (B, 1, h, w) coarse logits to take DLU's box from, in place of its own.
            trace: filled with what was done for the first image: `dpe_box` and `dlu_box` (left, top, right,
                bottom) in pixels, `boundary` (h, w) bool.
        """
        labels = self._labels(label, state)
        tokens, _, views = self.neck(state.tokens, state.grid, labels)
        logits, boxes = self.decode_head(self._as_map(tokens, state), state.edges, coarse, state.terms)
        if trace is not None:
            trace["dpe_box"] = (views[0].box * TOKEN).as_tuple()
            trace["dlu_box"] = (boxes[0] * TOKEN).as_tuple()
            trace["boundary"] = views[0].boundary
            trace["experts"] = self._experts(views[0].boundary)
        return logits

    def decode_for_training(self, state: ImageState, label: Tensor | np.ndarray) -> TrainingOutput:
        """Return logits of the whole map, the coarse mask and the quantisation loss; see `loss`."""
        tokens, vq_loss, _ = self.neck(state.tokens, state.grid, self._labels(label, state))
        x = self._as_map(tokens, state)
        return TrainingOutput(self.decode_head.whole(x, state.edges), self.decode_head.coarse(x.detach()), vq_loss)

    def forward(self, image: Tensor, label: Tensor | np.ndarray) -> TrainingOutput:
        """Encode and decode for training."""
        return self.decode_for_training(self.encode(image), label)

    @staticmethod
    def loss(output: TrainingOutput, target: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss, to be summed; target (B, 1, H, W) of 0, 1 and 255 (ignored)."""
        coarse = coarse_target(target, (output.coarse.shape[2], output.coarse.shape[3]))
        return {
            "mask": normalised_focal_loss(output.logits, target),
            "coarse": normalised_focal_loss(output.coarse, coarse),
            "vq": output.vq_loss,
        }

    def parts(self) -> Mapping[str, nn.Module]:
        """Return the parts by name; a list stands for the sum of its members."""
        blocks = [block for block in self.neck.blocks if isinstance(block, Block)]
        return {
            "encoder": self.backbone,
            "edges": self.edge_detector,
            "edge_terms": self.edge_terms,
            "dpe": self.neck.dpe,
            "attention": nn.ModuleList(block.attention for block in blocks),
            "experts": nn.ModuleList(block.ffn for block in blocks),
            "dlu": self.decode_head,
        }

    def used_parameters(self) -> int:
        """Return the number of parameters that the switched model uses."""
        unused = {
            id(parameter)
            for block in self.neck.blocks
            if isinstance(block, Block)
            for parameter in block.unused_parameters()
        }
        return sum(parameter.numel() for parameter in self.parameters() if id(parameter) not in unused)

    def _experts(self, boundary: np.ndarray) -> np.ndarray:
        """Return the expert of each token of the first image in the last block, (h, w) int, -1 where none."""
        out = np.full(boundary.shape, -1)
        ffn = self.neck.blocks[-1].ffn
        if isinstance(ffn, HMoE) and ffn.routed and boundary.any():
            out[boundary] = ffn.chosen[: int(boundary.sum())].cpu().numpy()
        return out

    @staticmethod
    def _as_map(tokens: Tensor, state: ImageState) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, state.grid)

    @staticmethod
    def _labels(label: Tensor | np.ndarray, state: ImageState) -> list[np.ndarray]:
        array = label.cpu().numpy() if isinstance(label, Tensor) else label
        height, width = (TOKEN * side for side in state.grid)
        if array.dtype != np.uint8 or array.shape[-2:] != (height, width):
            raise ValueError(
                f"label map of shape {array.shape} and type {array.dtype}: need (B, 1, {height}, {width}) "
                "uint8, the size of the encoded image"
            )
        maps = list(array.reshape(-1, height, width))
        if len(maps) != len(state.tokens):
            raise ValueError(f"{len(maps)} label maps for {len(state.tokens)} encoded images: need one for each")
        return maps
