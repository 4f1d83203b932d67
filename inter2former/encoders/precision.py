"""The bfloat16 option of the encoders, and what it costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16")
_NAMES = {"fp32": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16"}


def check_precision(precision: str) -> str:
    """Return "fp32" or "bf16" for that name or torch's ("float32", "bfloat16"); else raise ValueError."""
    if precision not in _NAMES:
        raise ValueError(f"precision={precision!r}: choose {' or '.join(PRECISIONS)} (float32, bfloat16 are the same)")
    return _NAMES[precision]


def compute_type(precision: str, x: Tensor) -> torch.dtype:
    """Return the type to compute in: bfloat16 only if asked for, at inference, on float32 input."""
    low = precision == "bf16" and x.dtype == torch.float32 and not torch.is_grad_enabled()
    return torch.bfloat16 if low else x.dtype


@torch.no_grad()
def precision_error(encoder: nn.Module, x: Tensor) -> dict[str, float]:
    """Compare an encoder in bfloat16 with itself in float32 on normalised images x (B, 3, H, W).

    Returns:
        `max_abs`: largest difference; `relative_rms`: root mean square of the difference over that of the result.
    """
    results, chosen = [], encoder.precision
    try:
        for precision in PRECISIONS:
            encoder.precision = precision  # type: ignore[assignment]
            results.append(encoder(x))
    finally:
        encoder.precision = chosen
    full, low = results
    difference = low - full
    return {
        "max_abs": difference.abs().max().item(),
        "relative_rms": (difference.square().mean() / full.square().mean()).sqrt().item(),
    }
