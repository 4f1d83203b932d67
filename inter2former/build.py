"""Builds models with seeded random weights; variants that agree in the encoder share one in memory."""

from __future__ import annotations

import math
import weakref
import zlib
from collections.abc import Hashable

import torch
from torch import Tensor, nn

from inter2former.config import Config
from inter2former.edges import CannyNet
from inter2former.model import Inter2Former


def make_backbone(config: Config, precision: str = "fp32") -> nn.Module:
    """Return the encoder of a configuration; lite comes with its pretrained trunk, hrsam at random."""
    if config.encoder == "hrsam":
        from inter2former.encoders.hrsam import HRSAMEncoder

        return HRSAMEncoder(config.dim, precision=precision)
    from inter2former.encoders.lite import LiteEncoder

    return LiteEncoder(config.dim, precision=precision)


def make_edge_detector(config: Config) -> nn.Module:
    """Return the edge detector of a configuration."""
    return CannyNet(config.head, config.edge_blocks)


_LIVING: weakref.WeakValueDictionary[Hashable, nn.Module] = weakref.WeakValueDictionary()


def build(config: Config, seed: int = 0, precision: str = "fp32", source: Hashable = None) -> tuple[Inter2Former, bool]:
    """Return a model with seeded random weights, in evaluation mode, and whether it shares encoder and edge
    detector.

    The weights of an entry depend on the seed and its name only, so that variants that differ in their
    switches agree wherever they have the same entries.

    Args:
        precision: of the encoder, "fp32" or "bf16".
        source: names where the weights of encoder and edge detector come from; a model built from the same
            source, as long as it lives, lends its two (not to be trained then). None: parts of its own.
    """
    key = (config.encoder, config.dim, config.head, config.edge_blocks, precision, seed, source)
    backbone, edges = _LIVING.get((key, "encoder")), _LIVING.get((key, "edges"))
    shared = source is not None and backbone is not None and edges is not None
    if not shared:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone, edges = make_backbone(config, precision), make_edge_detector(config)
    assert backbone is not None and edges is not None
    if source is not None:
        _LIVING[key, "encoder"], _LIVING[key, "edges"] = backbone, edges
    model = Inter2Former(config, backbone, edges)
    initialise(model.neck, seed)
    initialise(model.decode_head, seed)
    return model.eval(), shared


def initialise(module: nn.Module, seed: int) -> None:
    """Fill a module with seeded random weights: each entry's values depend on the seed and its name.

    Matrices and kernels are normal with variance 1 / inputs (2 / inputs before a ReLU: the stem), tables
    normal with deviation 0.5, norms 1 and biases 0.
    """
    for name, value in module.state_dict(keep_vars=True).items():
        if not value.is_floating_point():
            continue
        with torch.no_grad():
            value.copy_(_initial(name, value, seed))


def _initial(name: str, value: Tensor, seed: int) -> Tensor:
    if name.endswith(("bias", "exp_bias")) or "select_ffn_b" in name:
        return torch.zeros_like(value)
    if value.dim() == 1:
        return torch.ones_like(value)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    draw = torch.randn(value.shape, generator=generator)
    if name.endswith(("codebook", "ref_embeds.weight")):
        return 0.5 * draw
    inputs = value.shape[-1] if "select_ffn" in name else math.prod(value.shape[1:])
    return draw * math.sqrt((2 if ".stem." in name else 1) / inputs)
