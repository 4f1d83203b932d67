"""Small segmenters for the tests of measuring: one that computes, and several that misbehave."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class TinyNet(nn.Module):
    """A 3x3 convolution with stride 8 as encoder, single-head attention over its tokens, a 1x1 head."""

    def __init__(self, width: int):
        super().__init__()
        self.encoder = nn.Conv2d(3, width, 3, stride=8, padding=1)
        self.attention = TinyAttention(width)
        self.head = nn.Conv2d(width, 1, 1)


class TinyAttention(nn.Module):
    """Attention of the tokens listed in `chosen` (data dependent) over all tokens."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        out = x.clone()
        index = chosen.nonzero()[:, 0]
        out[:, index] = F.scaled_dot_product_attention(q[:, None, index], k[:, None], v[:, None])[:, 0]
        return out


class Tiny:
    """Prediction: previous mask or a bright score; attention only for tokens inside the previous mask."""

    threshold = 0.0

    def __init__(self, width: int = 8, weights_status: str = "untrained", sleep_ms: float = 0.0, seed: int = 0):
        torch.manual_seed(seed)
        self.module = TinyNet(width).eval()
        self.parts = {"encoder": self.module.encoder, "attention": self.module.attention, "head": self.module.head}
        self.encoder_key = f"tiny{width}"
        self.weights_status = weights_status
        self.sleep_ms = sleep_ms

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> tuple[torch.Tensor, tuple[int, int]]:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        return self.module.encoder(x), image.shape[:2]

    def start(self, embedding: tuple[torch.Tensor, tuple[int, int]]) -> TinySession:
        return TinySession(self, *embedding)


class TinySession:
    def __init__(self, segmenter: Tiny, features: torch.Tensor, size: tuple[int, int]):
        self.segmenter, self.features, self.size = segmenter, features, size
        self.previous = np.ones(size, dtype=bool)

    @torch.inference_mode()
    def click(self, click: object) -> np.ndarray:
        if self.segmenter.sleep_ms:
            time.sleep(self.segmenter.sleep_ms / 1e3)
        net = self.segmenter.module
        _, c, h, w = self.features.shape
        chosen = F.adaptive_max_pool2d(torch.from_numpy(self.previous)[None].float(), (h, w)).flatten() > 0
        x = net.attention(self.features.flatten(2).transpose(1, 2), chosen)
        logits = net.head(x.transpose(1, 2).reshape(1, c, h, w))
        scores = F.interpolate(logits, self.size, mode="bilinear", align_corners=False)[0, 0].numpy()
        self.previous = scores > 0
        return scores

    def replace_prediction(self, mask: np.ndarray) -> None:
        self.previous = mask.copy()


class Crashes(Tiny):
    """Dies in its second encode."""

    count = 0

    def encode(self, image):
        self.count += 1
        if self.count > 1:
            os._exit(7)
        return super().encode(image)


class Killed(Tiny):
    """Is killed as the kernel's out-of-memory killer does it."""

    def encode(self, image):
        os.kill(os.getpid(), signal.SIGKILL)


class Greedy(Tiny):
    """Asks for more memory than any machine has."""

    def encode(self, image):
        return torch.empty(1 << 50)


class Hangs(Tiny):
    """Falls silent."""

    def encode(self, image):
        time.sleep(3600)


class Raises(Tiny):
    """Raises an ordinary error."""

    def __init__(self, **kwargs):
        raise ValueError("width=0: must be positive")


class Pinned(Tiny):
    """Computes for long, and reports its affinity and thread counts through an error message."""

    def encode(self, image):
        import cv2

        started, cpu = time.perf_counter(), time.process_time()
        matrix = torch.randn(600, 600)
        picture = np.zeros((1500, 1500, 3), np.uint8)
        while time.perf_counter() - started < 0.7:
            matrix @ matrix
            cv2.GaussianBlur(picture, (9, 9), 2)
        share = (time.process_time() - cpu) / (time.perf_counter() - started)
        facts = [
            len(os.sched_getaffinity(0)),
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            cv2.getNumThreads(),
        ]
        raise RuntimeError(f"facts {facts} cpu {share:.3f}")
