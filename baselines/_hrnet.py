"""HRNetV2 with object context (OCR) for one class, with the parameter names of RITM's checkpoints.

Every resize aligns corners. With a single class, OCR's softmax over classes is 1 everywhere, so its query and key
paths (1 % of the work) do not influence the result; they run all the same, as in the released code, whose cost is
what the comparison is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Layout:
    """What tells one HRNet from another.

    Attributes:
        width: channels of the finest branch; the others have 2, 4 and 8 times as many.
        key: channels of OCR's queries and keys; its features have twice as many.
        bottlenecks: of stage 1.
        blocks: basic blocks per branch and module.
        modules: of stages 2, 3 and 4; stage s has s branches.
    """

    width: int
    key: int
    bottlenecks: int
    blocks: int
    modules: tuple[int, int, int]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the four branches, at strides 4, 8, 16 and 32."""
        return tuple(self.width * 2**branch for branch in range(4))


LAYOUTS = {
    "hrnet18s": Layout(18, 48, 2, 2, (1, 3, 2)),
    "hrnet18": Layout(18, 64, 4, 4, (1, 4, 3)),
    "hrnet32": Layout(32, 128, 4, 4, (1, 4, 3)),
}


def resize(x: Tensor, like: Tensor) -> Tensor:
    """Resize (B, C, h, w) to the height and width of `like`, corners aligned."""
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


def conv_norm(into: int, out: int, side: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Return convolution without bias, norm, and ReLU if wanted."""
    layers: list[nn.Module] = [
        nn.Conv2d(into, out, side, stride, side // 2, bias=False),
        nn.BatchNorm2d(out),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if relu else []))


class Basic(nn.Module):
    """Two 3x3 convolutions and a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        inner = F.relu_(self.bn1(self.conv1(x)))
        return F.relu_(self.bn2(self.conv2(inner)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions to 256 channels and a residual."""

    def __init__(self, into: int, middle: int = 64, out: int = 256) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = conv_norm(into, out, 1, relu=False) if into != out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, into, h, w) to (B, out, h, w)."""
        inner = F.relu_(self.bn1(self.conv1(x)))
        inner = F.relu_(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        return F.relu_(inner + (x if self.downsample is None else self.downsample(x)))


class Exchange(nn.Module):
    """Runs each branch, then gives every branch the sum of all, each brought to its resolution."""

    def __init__(self, widths: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(Basic(w) for _ in range(blocks))) for w in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(cast(nn.Module, self._path(widths, source, target)) for source in range(len(widths)))
            for target in range(len(widths))
        )

    @staticmethod
    def _path(widths: tuple[int, ...], source: int, target: int) -> nn.Module | None:
        if source == target:
            return None
        if source > target:
            return conv_norm(widths[source], widths[target], 1, relu=False)
        steps = target - source
        return nn.Sequential(
            *(
                conv_norm(widths[source], widths[target if last else source], 3, 2, relu=not last)
                for last in (step == steps - 1 for step in range(steps))
            )
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map one tensor a branch (B, width, h, w) to the same shapes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        result = []
        for target, paths in enumerate(self.fuse_layers):
            total: Tensor | None = None
            for source, path in enumerate(cast(nn.ModuleList, paths)):
                x = maps[source] if path is None else path(maps[source])
                x = resize(x, maps[target]) if source > target else x
                total = x if total is None else total + x
            assert total is not None
            result.append(F.relu(total))
        return result


class ObjectContext(nn.Module):
    """Attention from pixels to object regions (here: one region)."""

    def __init__(self, channels: int, key: int) -> None:
        super().__init__()
        self.key = key
        self.f_pixel = self._two(channels, key)
        self.f_object = self._two(channels, key)
        self.f_down = self._one(channels, key)
        self.f_up = self._one(key, channels)

    @staticmethod
    def _one(into: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(into, out, 1, bias=False), nn.Sequential(nn.BatchNorm2d(out), nn.ReLU(inplace=True))
        )

    @classmethod
    def _two(cls, into: int, out: int) -> nn.Sequential:
        return nn.Sequential(*cls._one(into, out), *cls._one(out, out))

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """Return the context (B, C, h, w) of pixels (B, C, h, w) and region vectors (B, C, classes, 1)."""
        query = self.f_pixel(x).flatten(2).transpose(1, 2)
        key = self.f_object(regions).flatten(2)
        value = self.f_down(regions).flatten(2).transpose(1, 2)
        weights = torch.softmax(self.key**-0.5 * (query @ key), dim=-1)
        context = (weights @ value).transpose(1, 2).reshape(x.shape[0], self.key, *x.shape[2:])
        return self.f_up(context)


class ObjectHead(nn.Module):
    """Joins the context with the pixels."""

    def __init__(self, channels: int, key: int) -> None:
        super().__init__()
        self.object_context_block = ObjectContext(channels, key)
        self.conv_bn_dropout = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 1, bias=False),
            nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True)),
            nn.Dropout2d(0.05),
        )

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """Map pixels (B, C, h, w) to the same shape."""
        return self.conv_bn_dropout(torch.cat([self.object_context_block(x, regions), x], dim=1))


class HRNet(nn.Module):
    """From a normalised image and features to add after the stem's first convolution to logits at stride 4."""

    def __init__(self, layout: Layout = LAYOUTS["hrnet18s"]) -> None:
        super().__init__()
        widths, channels = layout.widths, 2 * layout.key
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64), *(Bottleneck(256) for _ in range(layout.bottlenecks - 1)))
        self.transition1 = nn.ModuleList([conv_norm(256, widths[0], 3), nn.Sequential(conv_norm(256, widths[1], 3, 2))])
        self.stage2 = self._stage(layout, 2)
        self.transition2 = self._transition(widths, 2)
        self.stage3 = self._stage(layout, 3)
        self.transition3 = self._transition(widths, 3)
        self.stage4 = self._stage(layout, 4)
        joined = sum(widths)
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(joined, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.ocr_distri_head = ObjectHead(channels, layout.key)
        self.cls_head = nn.Conv2d(channels, 1, 1)
        self.aux_head = nn.Sequential(
            nn.Conv2d(joined, joined, 1), nn.BatchNorm2d(joined), nn.ReLU(inplace=True), nn.Conv2d(joined, 1, 1)
        )

    @staticmethod
    def _stage(layout: Layout, branches: int) -> nn.Sequential:
        modules = layout.modules[branches - 2]
        return nn.Sequential(*(Exchange(layout.widths[:branches], layout.blocks) for _ in range(modules)))

    @staticmethod
    def _transition(widths: tuple[int, ...], branches: int) -> nn.ModuleList:
        new = nn.Sequential(conv_norm(widths[branches - 1], widths[branches], 3, 2))
        return nn.ModuleList([*cast(list[nn.Module], [None] * branches), new])

    def features(self, image: Tensor, clicks: Tensor) -> Tensor:
        """Return all branches joined, (B, 15 x width, h, w), at stride 4.

        Args:
            image: (B, 3, H, W), normalised.
            clicks: (B, 64, H/2, W/2) features of the click maps.
        """
        x = F.relu_(self.bn1(self.conv1(image))) + clicks
        x = self.layer1(F.relu_(self.bn2(self.conv2(x))))
        maps = self.stage2([self.transition1[0](x), self.transition1[1](x)])
        maps = self.stage3([*maps, self.transition2[2](maps[-1])])
        maps = self.stage4([*maps, self.transition3[3](maps[-1])])
        return torch.cat([maps[0], *(resize(x, maps[0]) for x in maps[1:])], dim=1)

    def context(self, image: Tensor, clicks: Tensor) -> tuple[Tensor, Tensor]:
        """Return object-context features (B, 96, h, w) and auxiliary logits (B, 1, h, w) at stride 4."""
        x = self.features(image, clicks)
        auxiliary = self.aux_head(x)
        x = self.conv3x3_ocr(x)
        share = torch.softmax(auxiliary.flatten(2), dim=2)
        regions = (share @ x.flatten(2).transpose(1, 2)).transpose(1, 2).unsqueeze(3)
        return self.ocr_distri_head(x, regions), auxiliary

    def forward(self, image: Tensor, clicks: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and auxiliary logits, each (B, 1, h, w) at stride 4."""
        x, auxiliary = self.context(image, clicks)
        return self.cls_head(x), auxiliary
