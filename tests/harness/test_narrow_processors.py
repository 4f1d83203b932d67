"""What a processor without wide instructions sees: the affected code in a process whose libraries are held back.

`ONEDNN_MAX_CPU_ISA` and `ATEN_CPU_CAPABILITY` are oneDNN's and torch's own switches; both are read when torch is
loaded, so each of these runs is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.machine.features import Features, running_precision

NARROW = [
    pytest.param({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}, id="avx2"),
    pytest.param({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}, id="default"),
]

# Three clicks of a small ViT-B-like encoder would cost minutes here: one encoder block in bfloat16 is what failed.
PROGRAM = """
import torch
from harness.machine.features import features, running_precision
from inter2former.encoders.hrsam import HRSAMEncoder
from inter2former.encoders.linear import PACKED_TYPES, Linear
assert not features().bfloat16
assert running_precision("bfloat16") == "bf16 (emulated)" and running_precision("float32") == "fp32"
assert torch.bfloat16 not in PACKED_TYPES
torch.manual_seed(0)
layer, x = Linear(32, 48), torch.randn(5, 32)
with torch.no_grad():
    low, full = layer(x.bfloat16()), layer.double()(x.double())
# bfloat16 keeps 8 bits: inputs, weights and the sum are rounded by 2 ** -9 each; 32 terms of size about 1 / sqrt(32).
assert low.dtype == torch.bfloat16 and (low.double() - full).abs().max() < 32 * 2**-9
encoder = HRSAMEncoder(dim=128, depth=2, heads=2, fused_after=(0, 1), precision="bfloat16").eval()
with torch.no_grad():
    assert torch.isfinite(encoder(torch.randn(1, 3, 256, 256))).all()
print("fine")
"""


@pytest.mark.parametrize("held_back", NARROW)
def test_bfloat16_runs_where_nothing_packs_it(held_back):
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**os.environ, **held_back}, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "fine", run.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("held_back", NARROW)
def test_the_encoders_and_their_goldens_hold_there(held_back):
    """All but the edge maps of a million pixels on kernels older than AVX2: docs/foot-guns.md, "Old processors"."""
    files = ["test_encoder_hrsam.py", "test_encoder_lite.py", "test_edges.py", "test_neck_golden.py"]
    left_out = ["-k", "not large_edge_maps"] if held_back["ATEN_CPU_CAPABILITY"] == "default" else []
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "not slow",
            *left_out,
            *(f"tests/inter2former/{f}" for f in files),
        ],
        env={**os.environ, **held_back},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]


def test_a_table_says_which_precision_ran():
    """Closed form: bf16 is what it says only where oneDNN has instructions for it."""
    narrow, wide = Features("AVX2", False, False), Features("AVX512", True, True)
    assert running_precision("bf16", narrow) == running_precision("bfloat16", narrow) == "bf16 (emulated)"
    assert running_precision("bf16", wide) == running_precision("bfloat16", wide) == "bf16"
    assert running_precision("fp32", narrow) == running_precision("float32", narrow) == "fp32"
