"""HRNetV2-W18-small with object context (OCR) for one class, with the parameter names of RITM's checkpoints.

Every resize aligns corners. With a single class, OCR's softmax over classes is 1 everywhere, so its query and key
paths (1 % of the work) do not influence the result; they run all the same, as in the released code, whose cost is
what the comparison is about.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (18, 36, 72, 144)
MODULES = {2: 1, 3: 3, 4: 2}
"""Modules of stages 2, 3 and 4; stage s has s branches."""
BLOCKS = 2
MIDDLE, KEY = 96, 48


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

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(Basic(w) for _ in range(BLOCKS))) for w in widths)
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

    def __init__(self) -> None:
        super().__init__()
        self.f_pixel = self._two(MIDDLE)
        self.f_object = self._two(MIDDLE)
        self.f_down = self._one(MIDDLE, KEY)
        self.f_up = self._one(KEY, MIDDLE)

    @staticmethod
    def _one(into: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(into, out, 1, bias=False), nn.Sequential(nn.BatchNorm2d(out), nn.ReLU(inplace=True))
        )

    @classmethod
    def _two(cls, into: int) -> nn.Sequential:
        return nn.Sequential(*cls._one(into, KEY), *cls._one(KEY, KEY))

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """Return the context (B, 96, h, w) of pixels (B, 96, h, w) and region vectors (B, 96, classes, 1)."""
        query = self.f_pixel(x).flatten(2).transpose(1, 2)
        key = self.f_object(regions).flatten(2)
        value = self.f_down(regions).flatten(2).transpose(1, 2)
        weights = torch.softmax(KEY**-0.5 * (query @ key), dim=-1)
        context = (weights @ value).transpose(1, 2).reshape(x.shape[0], KEY, *x.shape[2:])
        return self.f_up(context)


class ObjectHead(nn.Module):
    """Joins the context with the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.object_context_block = ObjectContext()
        self.conv_bn_dropout = nn.Sequential(
            nn.Conv2d(2 * MIDDLE, MIDDLE, 1, bias=False),
            nn.Sequential(nn.BatchNorm2d(MIDDLE), nn.ReLU(inplace=True)),
            nn.Dropout2d(0.05),
        )

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """Map pixels (B, 96, h, w) to the same shape."""
        return self.conv_bn_dropout(torch.cat([self.object_context_block(x, regions), x], dim=1))


class HRNet(nn.Module):
    """From a normalised image and features to add after the stem's first convolution to logits at stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Bottleneck(64), Bottleneck(256))
        self.transition1 = nn.ModuleList([conv_norm(256, WIDTHS[0], 3), nn.Sequential(conv_norm(256, WIDTHS[1], 3, 2))])
        self.stage2 = self._stage(2)
        self.transition2 = self._transition(2)
        self.stage3 = self._stage(3)
        self.transition3 = self._transition(3)
        self.stage4 = self._stage(4)
        joined = sum(WIDTHS)
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(joined, MIDDLE, 3, padding=1), nn.BatchNorm2d(MIDDLE), nn.ReLU(inplace=True)
        )
        self.ocr_distri_head = ObjectHead()
        self.cls_head = nn.Conv2d(MIDDLE, 1, 1)
        self.aux_head = nn.Sequential(
            nn.Conv2d(joined, joined, 1), nn.BatchNorm2d(joined), nn.ReLU(inplace=True), nn.Conv2d(joined, 1, 1)
        )

    @staticmethod
    def _stage(branches: int) -> nn.Sequential:
        return nn.Sequential(*(Exchange(WIDTHS[:branches]) for _ in range(MODULES[branches])))

    @staticmethod
    def _transition(branches: int) -> nn.ModuleList:
        new = nn.Sequential(conv_norm(WIDTHS[branches - 1], WIDTHS[branches], 3, 2))
        return nn.ModuleList([*cast(list[nn.Module], [None] * branches), new])

    def features(self, image: Tensor, clicks: Tensor) -> Tensor:
        """Return (B, 270, h, w) at stride 4 of images (B, 3, H, W) and click features (B, 64, H/2, W/2)."""
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
