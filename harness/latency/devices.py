"""Models that compute on another device: a call returns when its work is queued, so they have to say how to wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

_FIX = (
    "give it a method synchronise() that waits until the device is done, for example "
    "`def synchronise(self): torch.cuda.synchronize()`"
)


def waiting(segmenter: Any) -> Callable[[], None]:
    """What to call before a time is taken: the segmenter's own `synchronise`, nothing for a model on the CPU.

    Raises:
        ValueError: the model lies on another device and has no `synchronise`.
    """
    hook = getattr(segmenter, "synchronise", None)
    if callable(hook):
        return hook
    for device in _devices(segmenter):
        if device.partition(":")[0] != "cpu":
            raise ValueError(
                f"{type(segmenter).__name__} computes on {device!r} and does not say how to wait for it, so that its "
                f"times would be those of queueing: {_FIX}"
            )
    return lambda: None


def _devices(segmenter: Any) -> Iterator[str]:
    """Names of the devices of a segmenter, of its modules' parameters and buffers, and of its tensors."""
    parts = [segmenter, *getattr(segmenter, "__dict__", {}).values(), getattr(segmenter, "module", None)]
    for part in list(parts):
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, (list, tuple)) else []
    for part in parts:
        device = getattr(part, "device", None)
        if isinstance(device, str) or isinstance(getattr(device, "type", None), str):
            yield str(device)
        for members in ("parameters", "buffers"):
            call = getattr(part, members, None)
            if callable(call) and hasattr(part, "register_buffer"):
                yield from {str(tensor.device) for tensor in call()}
