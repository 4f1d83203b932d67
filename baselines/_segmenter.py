"""What every segmenter with a network says of it, and how its weights are written."""

from __future__ import annotations

from typing import Generic

from baselines import _weights
from baselines._weights import Net


class NetworkSegmenter(Generic[Net]):
    """Base of the segmenters that have a network.

    Args:
        module: the network with its weights, in eval mode.
        status: of the weights.

    Attributes:
        module: everything that computes.
        parameters: their number.
        weights_status: "released", "trained here" or "untrained".
        weights_digest: short hex of names and values.
    """

    def __init__(self, module: Net, status: str) -> None:
        self.module = module
        self.weights_status = status
        self.parameters = _weights.count(module)
        self.weights_digest = _weights.digest(module)

    def save(self, path: str) -> None:
        """Write the weights to a .safetensors file that `weights` takes back."""
        _weights.save(self.module, path, self.weights_status)
