"""What each operator of a trace costs, by fvcore's own formulas where it has them: for `flop_trace`.

Units: a *multiply-accumulate* (MAC) is one product added to a sum, two floating-point operations (FLOPs). PRODUCTS
are counted in MACs: convolutions, matrix products, attention, einsum. ARITHMETIC is counted in FLOPs: norms, softmax,
interpolation, pooling, reductions. FREE operators move, compare or index data, or touch each element once
(activations, sums of two tensors): by the convention of the field they are not counted. gflops = 2 x gmacs +
arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from fvcore.nn.jit_handles import (
    conv_flop_jit,
    einsum_flop_jit,
    get_shape,
    linear_flop_jit,
)

from harness.flops import costs

Handle = Callable[[list[Any], list[Any]], Any]


def matmul(inputs: list[Any], outputs: list[Any]) -> int:
    """MACs of a matrix product with broadcasting: output elements times the inner length."""
    a, b = get_shape(inputs[0]), get_shape(inputs[1])
    assert a is not None and b is not None
    inner = a[-1]
    return _size(outputs[0]) * inner


def added_product(inputs: list[Any], outputs: list[Any]) -> int:
    """MACs of addmm and baddbmm (added, left, right)."""
    left = get_shape(inputs[1])
    assert left is not None
    return _size(outputs[0]) * left[-1]


def attention(inputs: list[Any], outputs: list[Any]) -> int:
    """MACs of scaled_dot_product_attention: q k^T and the weighted sum of v, softmax not included.

    q (…, L, E), k (…, S, E), v (…, S, Ev): L S (E + Ev) for each batch entry and head.
    """
    q, k, v = (get_shape(value) for value in inputs[:3])
    assert q is not None and k is not None and v is not None
    return prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def einsum(inputs: list[Any], outputs: list[Any]) -> int:
    """MACs of an einsum of one or two operands; more operands by fvcore's optimal path."""
    equation = inputs[0].toIValue().replace(" ", "")
    shapes = [get_shape(value) for value in inputs[1].node().inputs()]
    if len(shapes) > 2 or "." in equation:
        return int(einsum_flop_jit(inputs, outputs))
    terms = equation.split("->")[0].split(",")
    sizes = {
        letter: n
        for term, shape in zip(terms, shapes, strict=True)
        for letter, n in zip(term, shape or [], strict=True)
    }
    return prod(sizes.values()) if len(shapes) == 2 else 0


def per_input(cost: float) -> Handle:
    """So many FLOPs per element of the first input."""
    return lambda inputs, outputs: cost * _size(inputs[0])


def per_output(cost: float) -> Handle:
    """So many FLOPs per element of the first output."""
    return lambda inputs, outputs: cost * _size(outputs[0])


def per_source(position: int) -> Handle:
    """One FLOP per element of the argument at this position: a sum into places adds each element of its source."""
    return lambda inputs, outputs: _size(inputs[position])


def pooling(inputs: list[Any], outputs: list[Any]) -> int:
    """One FLOP per element of each window: kernel size times output size."""
    kernel = [value.toIValue() for value in inputs[1].node().inputs()]
    return _size(outputs[0]) * prod(kernel if len(kernel) > 1 else kernel * 2)


def _size(value: Any) -> int:
    shape = get_shape(value)
    return prod(shape) if shape is not None else 0


PRODUCTS: dict[str, Handle] = {
    "aten::addmm": added_product,
    "aten::bmm": matmul,
    "aten::baddbmm": added_product,
    "aten::mm": matmul,
    "aten::mv": matmul,
    "aten::dot": matmul,
    "aten::matmul": matmul,
    "aten::linear": linear_flop_jit,
    "aten::einsum": einsum,
    "aten::_convolution": conv_flop_jit,
    "aten::scaled_dot_product_attention": attention,
}

# Bilinear interpolation combines 4 values, bicubic 16 (a product and a sum for each); norms: mean, variance, scale,
# shift.
ARITHMETIC: dict[str, Handle] = {
    "aten::upsample_linear1d": per_output(4),
    "aten::upsample_bilinear2d": per_output(8),
    "aten::_upsample_bilinear2d_aa": per_output(8),
    "aten::upsample_bicubic2d": per_output(32),
    "aten::_upsample_bicubic2d_aa": per_output(32),
    "aten::grid_sampler": per_output(8),
    "aten::layer_norm": per_input(5),
    "aten::native_layer_norm": per_input(5),
    "aten::group_norm": per_input(5),
    "aten::instance_norm": per_input(5),
    "aten::batch_norm": per_input(2),
    "aten::var_mean": per_input(3),
    "aten::var": per_input(3),
    "aten::std": per_input(3),
    "aten::softmax": per_input(3),
    "aten::log_softmax": per_input(3),
    "aten::norm": per_input(2),
    "aten::linalg_vector_norm": per_input(2),
    "aten::sum": per_input(1),
    "aten::mean": per_input(1),
    "aten::prod": per_input(1),
    "aten::cumsum": per_input(1),
    "aten::logsumexp": per_input(3),
    "aten::avg_pool2d": pooling,
    "aten::adaptive_avg_pool2d": per_input(1),
}
for _name, _source in {"scatter_add": 3, "index_add": 3}.items():
    ARITHMETIC[f"aten::{_name}"] = per_source(_source)

FREE = costs.FREE | frozenset({"aten::Int", "aten::Bool", "aten::Float"})
"""What costs nothing is no formula: the lists are the same."""
