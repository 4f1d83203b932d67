"""Models for these tests: the paper's with the goldens' weights, and a tiny one for identities."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch
from goldens import rule_state_dict
from torch import nn

from inter2former.build import build, initialise
from inter2former.config import Config, make_config
from inter2former.edges import CannyNet
from inter2former.model import Inter2Former, Neck
from inter2former.upsampling import DecodeHead


@lru_cache(maxsize=1)
def rule_state() -> dict[str, torch.Tensor]:
    """The 432 entries of the goldens' weight rule."""
    return rule_state_dict()


def part_state(prefix: str) -> dict[str, torch.Tensor]:
    """The entries of one part, without its prefix."""
    return {key[len(prefix) :]: value for key, value in rule_state().items() if key.startswith(prefix)}


def rule_neck(routing: str) -> Neck:
    neck = Neck(make_config("vit_b", routing=routing))
    neck.load_state_dict(part_state("neck."))
    return neck.eval()


def rule_head(local: bool = True) -> DecodeHead:
    head = DecodeHead(Config().head, local)
    head.load_state_dict(part_state("decode_head."))
    return head.eval()


@lru_cache(maxsize=1)
def _rule_model() -> Inter2Former:
    model, _ = build(make_config("vit_b"))
    model.load_state_dict(rule_state())
    return model


def rule_model(routing: str) -> Inter2Former:
    """The whole model with the goldens' weights; encoder and edge detector are shared between calls."""
    base = _rule_model()
    config = make_config("vit_b", routing=routing)
    model = Inter2Former(config, base.backbone, base.edge_detector)
    model.neck.load_state_dict(base.neck.state_dict())
    model.decode_head.load_state_dict(base.decode_head.state_dict())
    return model.eval()


TINY = Config(preset="lite", dim=32, stem=(8, 8, 16, 32), hidden=64, head=(32, 8, 4, 4), edge_blocks=1)


def tiny_model(seed: int = 0, **switches: str) -> Inter2Former:
    """A small model with one patch convolution for an encoder; random weights, edge maps that matter."""
    config = make_tiny(**switches)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Inter2Former(config, nn.Conv2d(3, config.dim, 16, 16), CannyNet(config.head, config.edge_blocks))
    for part in (model.neck, model.decode_head, model.edge_detector.lateral_convs):
        initialise(part, seed)
    return model.eval()


def make_tiny(**switches: str) -> Config:
    return replace(TINY, **switches)
