"""What this processor can do, asked once, as torch and oneDNN see it (so `ONEDNN_MAX_CPU_ISA` counts)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from harness.planning.identity import PRECISIONS

EMULATED = (
    "precision=bf16 runs, but this CPU has no instructions for it (AVX-512, AMX or AVX-NE-CONVERT), so torch emulates "
    'them: near the same answers, slower than fp32. Tables call it "bf16 (emulated)".'
)


@dataclass(frozen=True)
class Features:
    """Instruction sets that decide what runs and how fast.

    Attributes:
        capability: kernels that torch chooses: "DEFAULT", "AVX2", "AVX512", "NEON", …
        bfloat16: oneDNN multiplies in bfloat16 with instructions for it, or with AVX-512.
        bfloat16_products: the processor has products of bfloat16 (AVX512-BF16 or AMX); without, they cost as float32.
    """

    capability: str
    bfloat16: bool
    bfloat16_products: bool


@functools.lru_cache(maxsize=1)
def features() -> Features:
    """The features of this processor, in this process."""
    import torch

    def ask(name: str, *path: str) -> bool:
        place = torch
        for part in (*path, name):
            place = getattr(place, part, None)  # type: ignore[assignment]
        return bool(place()) if callable(place) else False

    supported = ask("_is_mkldnn_bf16_supported", "ops", "mkldnn")
    products = ask("_is_avx512_bf16_supported", "cpu") or ask("_is_amx_tile_supported", "cpu")
    return Features(torch.backends.cpu.get_cpu_capability(), supported, supported and products)


def running_precision(precision: str, has: Features | None = None) -> str:
    """What a precision that was asked for comes to on this processor, as the tables show it.

    Returns:
        The precision's one name; "bf16 (emulated)" where nothing multiplies in bfloat16: the answers are the same, and
        it is slower than fp32.
    """
    has = has or features()
    name = PRECISIONS.get(precision, precision)
    return f"{name} (emulated)" if name == "bf16" and not has.bfloat16 else name
