"""MACs by torch's own counter, with what it lacks on the CPU: expected values for the tests of the FLOP count."""

from __future__ import annotations

import math

import torch
from torch.utils.flop_counter import FlopCounterMode


def cpu_attention(q, k, v, *args, out_shape=None, **kwargs):
    """What torch's counter lacks for the CPU: 2 x (q k' + weights v), two FLOPs per multiply-accumulate."""
    b, h, n, e = q
    return 2 * b * h * n * k[-2] * (e + v[-1])


def product_in_place(added, a, b, *args, out_shape=None, **kwargs):
    """The in-place form of addmm, which torch's counter lacks, too."""
    return 2 * a[0] * a[1] * b[1]


def vector_product(a, b, *args, out_shape=None, **kwargs):
    """Matrix or vector times vector, which torch's counter lacks as well."""
    return 2 * math.prod(a)


def reference_macs(call) -> float:
    """MACs by torch's FlopCounterMode (two FLOPs per MAC), with CPU attention mapped."""
    mapping = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: cpu_attention,
        torch.ops.aten.addmm_: product_in_place,
        torch.ops.aten.mv: vector_product,
        torch.ops.aten.dot: vector_product,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        call()
    return counter.get_total_flops() / 2
