"""A user's own model and data set as docs/extending.md tells them to write it: a class each."""

import time

import numpy as np

from harness.errors import SampleError
from harness.sample import Sample


class DiscSegmenter:
    """Answers with discs around the positive clicks, cut by discs around the negative ones."""

    threshold = 0.5
    weights_status = "no weights"

    def __init__(self, radius=12, delay_ms=0.0, fail_on="", encoder="toy"):
        if radius <= 0:
            raise ValueError(f"radius={radius} must be positive; try 12")
        self.radius, self.delay_ms, self.fail_on = radius, delay_ms, fail_on
        self.encoder_key = encoder
        self.encoded = 0

    def encode(self, image):
        self.encoded += 1
        return image.shape[:2]

    def start(self, embedding):
        return DiscSession(self, embedding)


class DiscSession:
    def __init__(self, owner, shape):
        self.owner, self.scores = owner, np.zeros(shape, np.float32)
        self.rows, self.columns = np.ogrid[: shape[0], : shape[1]]

    def click(self, click):
        time.sleep(self.owner.delay_ms / 1e3)
        if self.owner.fail_on == "second" and self.scores.any():
            raise RuntimeError("this model breaks at its second click")
        inside = (self.rows - click.y) ** 2 + (self.columns - click.x) ** 2 <= self.owner.radius**2
        self.scores[inside] = 1.0 if click.positive else 0.0
        return self.scores.copy()


class Squares:
    """Grey images (90, 91, …) with one square object each; sample `bad` cannot be read."""

    name, note = "squares", "toy"

    def __init__(self, count=4, size=64, bad=None, root=None, limit=None, shard=None):
        self.size, self.bad = size, bad
        self.names = [f"square{i}" for i in range(count)][:limit]

    def __len__(self):
        return len(self.names)

    def load(self, name):
        if name == self.bad:
            raise SampleError(f"{name}: mask of another size than the image; export it again")
        i = int(name.removeprefix("square"))
        mask = np.zeros((self.size, self.size), np.uint8)
        mask[10 : 30 + i, 12 : 34 + 2 * i] = 1
        return Sample(name, np.full((self.size, self.size, 3), 90 + i, np.uint8), mask)

    def digest(self):
        return f"squares-{len(self.names)}-{self.size}"
