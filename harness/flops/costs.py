"""What each torch operator costs. Every operator is in one of three lists; a fourth kind is an error.

Units: a *multiply-accumulate* (MAC) is one product added to a sum, two floating-point operations (FLOPs). PRODUCTS
are counted in MACs: convolutions, matrix products, attention, einsum. ARITHMETIC is counted in FLOPs: norms, softmax,
interpolation, pooling, reductions. FREE operators move, compare or index data, or touch each element once
(activations, sums of two tensors): by the convention of the field they are not counted. gflops = 2 x gmacs +
arithmetic.

The names are those that torch's dispatcher shows, without the overload: `aten::sum` stands for
`aten::sum.dim_IntList`, and in-place forms (`aten::add_`) cost what the plain forms cost. An operator made of others
(`aten::linear`) may arrive in its pieces; WHOLE names the few functions whose cost is not that of their pieces.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import floor, prod
from typing import Any

import numpy as np
import torch

Cost = Callable[[Sequence[Any], Any], float]
"""(arguments of the operator, its result) -> MACs or FLOPs; tensors among them are the real ones."""


def matmul(inputs: Sequence[Any], output: Any) -> int:
    """MACs of a matrix product with broadcasting: output elements times the inner length."""
    return size(output) * inputs[0].shape[-1]


def added_product(inputs: Sequence[Any], output: Any) -> int:
    """MACs of addmm, addmv and baddbmm (added, left, right)."""
    return size(output) * inputs[1].shape[-1]


def outer_product(inputs: Sequence[Any], output: Any) -> int:
    """MACs of addr (added, left, right): one for each pair of elements."""
    return size(output)


def linear(inputs: Sequence[Any], output: Any) -> int:
    """MACs of a linear layer (x, weight): each input element meets each output feature."""
    return size(inputs[0]) * inputs[1].shape[0]


def convolution(inputs: Sequence[Any], output: Any) -> int:
    """MACs of a convolution (x, weight, bias, stride, padding, dilation, transposed, …), batched.

    Every weight is used once at each output position, in a transposed convolution at each input position.
    """
    x, weight, transposed = inputs[0], inputs[1], inputs[6]
    places = (x if transposed else output).shape[2:]
    return x.shape[0] * prod(weight.shape) * prod(places)


def attention(inputs: Sequence[Any], output: Any) -> int:
    """MACs of scaled_dot_product_attention: q k^T and the weighted sum of v, softmax not included.

    q (…, L, E), k (…, S, E), v (…, S, Ev): L S (E + Ev) for each batch entry and head.
    """
    q, k, v = (value.shape for value in inputs[:3])
    return prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def einsum(inputs: Sequence[Any], output: Any) -> int:
    """MACs of an einsum (equation, operands): none for one operand, the product of all sizes for two, and for more
    those of the cheapest order of pairwise products.
    """
    equation, operands = inputs[0].replace(" ", ""), inputs[1:]
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = operands[0]
    if len(operands) < 2:
        return 0
    if len(operands) > 2:
        return _cheapest_order(equation, tuple(tuple(value.shape) for value in operands))
    sizes: dict[str, int] = {}
    for term, value in zip(equation.split("->")[0].split(","), operands, strict=True):
        for letter, length in zip(_letters(term, value.dim()), value.shape, strict=True):
            sizes[letter] = max(length, sizes.get(letter, 1))  # a length of 1 is repeated
    return prod(sizes.values())


def _letters(term: str, dimensions: int) -> list[str]:
    """The index of each dimension; those of an ellipsis are numbered from the right."""
    before, dots, after = term.partition("...")
    unnamed = dimensions - len(before) - len(after) if dots else 0
    return [*before, *(f"...{place}" for place in range(unnamed, 0, -1)), *after]


@functools.lru_cache(maxsize=256)
def _cheapest_order(equation: str, shapes: tuple[tuple[int, ...], ...]) -> int:
    operands = [np.broadcast_to(np.zeros(()), shape) for shape in shapes]
    report = np.einsum_path(equation, *operands, optimize="optimal")[1]
    line = next(line for line in report.splitlines() if "optimized flop" in line.lower())
    return floor(float(line.split(":")[-1]) / 2)


def per_input(cost: float) -> Cost:
    """So many FLOPs per element of the first input."""
    return lambda inputs, output: cost * size(inputs[0])


def per_output(cost: float) -> Cost:
    """So many FLOPs per element of the first output."""
    return lambda inputs, output: cost * size(output)


def per_source(position: int) -> Cost:
    """One FLOP per element of the argument at this position: a sum into places adds each element of its source."""
    return lambda inputs, output: size(inputs[position])


def pooling(inputs: Sequence[Any], output: Any) -> int:
    """One FLOP per element of each window: kernel size times output size."""
    kernel = list(inputs[1])
    return size(output) * prod(kernel if len(kernel) > 1 else kernel * 2)


def size(value: Any) -> int:
    """Elements of a tensor, or of the first of several; 0 for anything else."""
    if isinstance(value, torch.Tensor):
        return value.numel()
    return size(value[0]) if isinstance(value, (tuple, list)) and value else 0


PRODUCTS: dict[str, Cost] = {
    "aten::addmm": added_product,
    "aten::addmv": added_product,
    "aten::addr": outer_product,
    "aten::bmm": matmul,
    "aten::baddbmm": added_product,
    "aten::mm": matmul,
    "aten::mv": matmul,
    "aten::dot": matmul,
    "aten::vdot": matmul,
    "aten::matmul": matmul,
    "aten::linear": linear,
    "aten::einsum": einsum,
    "aten::convolution": convolution,
    "aten::_convolution": convolution,
    "aten::scaled_dot_product_attention": attention,
    "aten::_scaled_dot_product_flash_attention": attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention,
    "aten::_scaled_dot_product_efficient_attention": attention,
    "aten::_scaled_dot_product_cudnn_attention": attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": attention,
}

# Bilinear interpolation combines 4 values, bicubic 16 (a product and a sum for each); norms: mean, variance, scale,
# shift.
ARITHMETIC: dict[str, Cost] = {
    "aten::upsample_linear1d": per_output(4),
    "aten::upsample_bilinear2d": per_output(8),
    "aten::_upsample_bilinear2d_aa": per_output(8),
    "aten::upsample_bicubic2d": per_output(32),
    "aten::_upsample_bicubic2d_aa": per_output(32),
    "aten::grid_sampler": per_output(8),
    "aten::grid_sampler_2d": per_output(8),
    "aten::layer_norm": per_input(5),
    "aten::native_layer_norm": per_input(5),
    "aten::group_norm": per_input(5),
    "aten::native_group_norm": per_input(5),
    "aten::instance_norm": per_input(5),
    "aten::batch_norm": per_input(2),
    "aten::native_batch_norm": per_input(2),
    "aten::_native_batch_norm_legit": per_input(2),
    "aten::_native_batch_norm_legit_no_training": per_input(2),
    "aten::cudnn_batch_norm": per_input(2),
    "aten::var_mean": per_input(3),
    "aten::var": per_input(3),
    "aten::std": per_input(3),
    "aten::softmax": per_input(3),
    "aten::_softmax": per_input(3),
    "aten::_safe_softmax": per_input(3),
    "aten::log_softmax": per_input(3),
    "aten::_log_softmax": per_input(3),
    "aten::norm": per_input(2),
    "aten::linalg_vector_norm": per_input(2),
    "aten::sum": per_input(1),
    "aten::mean": per_input(1),
    "aten::prod": per_input(1),
    "aten::cumsum": per_input(1),
    "aten::logsumexp": per_input(3),
    "aten::avg_pool2d": pooling,
    "aten::adaptive_avg_pool2d": per_input(1),
    "aten::_adaptive_avg_pool2d": per_input(1),
}
for _name, _source in {"scatter_add": 3, "index_add": 3}.items():
    ARITHMETIC[f"aten::{_name}"] = per_source(_source)

WHOLE: dict[Any, tuple[str, tuple[str, ...]]] = {
    torch.nn.functional.scaled_dot_product_attention: (
        "aten::scaled_dot_product_attention",
        ("query", "key", "value"),
    ),
    torch.functional.einsum: ("aten::einsum", ()),
    torch.nn.functional.instance_norm: ("aten::instance_norm", ("input",)),
    torch.instance_norm: ("aten::instance_norm", ("input",)),
}
"""Functions of torch that are counted as this one operator, whatever they run (attention without a fused kernel runs
products and a softmax), and what their first arguments are called."""

_FREE_NAMES = """
__rshift__ __lshift__ __iand__ __ior__ __ixor__ __invert__ __ilshift__ __irshift__ bool int float Int IntImplicit
Float Bool ScalarImplicit FloatImplicit size numel dim is_floating_point __and__ __or__ __xor__ __not__ __getitem__
__contains__ len item _local_scalar_dense lift lift_fresh lift_fresh_copy abs add sub rsub mul div neg reciprocal
pow square sqrt rsqrt exp exp2 log log2 log1p expm1 sin cos tan tanh atan2 sigmoid silu gelu relu relu6 leaky_relu
elu hardtanh hardswish softplus addcmul addcdiv lerp clamp clamp_min clamp_max minimum maximum floor ceil round
trunc floor_divide remainder fmod bitwise_and bitwise_or bitwise_xor bitwise_not logical_and logical_or logical_xor
logical_not bitwise_left_shift bitwise_right_shift sign isnan isinf isfinite eq ne lt le gt ge max min amax amin
aminmax argmax argmin any all sort argsort topk where nonzero nonzero_numpy unique_consecutive unique unique_dim
_unique2 bincount searchsorted bucketize count_nonzero equal allclose cat stack concat hstack vstack chunk split
split_with_sizes unbind unsafe_split tensor_split index index_select index_put _index_put_impl_ gather scatter
masked_fill masked_select masked_scatter take take_along_dim embedding one_hot index_copy index_fill_ diagonal tril
triu view reshape view_as reshape_as flatten unflatten permute transpose t movedim squeeze unsqueeze expand
expand_as repeat repeat_interleave tile broadcast_to select slice narrow roll flip rot90 unfold im2col col2im
as_strided pixel_shuffle pixel_unshuffle contiguous clone detach copy_ to type_as _to_copy alias numpy_T
constant_pad_nd pad reflection_pad2d reflection_pad1d replication_pad2d replication_pad1d arange linspace zeros
zeros_like ones ones_like full full_like fill_ zero_ empty empty_like new_empty new_zeros new_ones new_full eye
tensor scalar_tensor meshgrid cartesian_prod rand randn randint randperm normal_ uniform_ set_ resize_ dropout
feature_dropout identity upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d max_pool2d
adaptive_max_pool2d view_as_complex view_as_real complex real imag polar resolve_conj resolve_neg result_type
fill_diagonal_ new_empty_strided empty_strided swapaxes swapdims ravel nan_to_num _shape_as_tensor is_nonzero
_unsafe_view _reshape_alias _fused_sdp_choice max_pool2d_with_indices
"""
FREE = frozenset(f"aten::{name}" for name in _FREE_NAMES.split())
