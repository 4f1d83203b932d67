"""HMoE, hybrid mixture of experts: all tokens share a narrow feed-forward; boundary tokens add one of eight
experts.

`on`      shared part for all; boundary tokens add the expert of the highest gate, weighted against the shared
part.
`shared`  the shared part alone: what the routed experts are worth.
`dense`   off: one feed-forward of the full hidden width for all tokens.

An expert is chosen by gate plus a bias that training moves against the load, a fixed step towards balance,
without a loss of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.derived import Derived, with_bias
from inter2former.encoders.linear import Linear

BALANCE_STEP = 1e-3
BALANCE_STEPS = 100_000


def gate(x: Tensor) -> Tensor:
    """Return SiLU(a) * b for x = [a | b]."""
    a, b = x.chunk(2, dim=-1)
    return F.silu(a).mul_(b)


class SwiGLU(nn.Module):
    """W3 LN(SiLU(W1 x) * W2 x); the norm belongs to the caller, as experts share one."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden)
        self.w2 = nn.Linear(dim, hidden)
        self.w3 = nn.Linear(hidden, dim)

        self._derived = Derived()

    def hidden(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return LN(SiLU(W1 x) * W2 x): (N, dim) -> (N, hidden)."""
        if torch.is_grad_enabled():
            return norm(F.silu(self.w1(x)) * self.w2(x))
        sources = [self.w1.weight, self.w1.bias, self.w2.weight, self.w2.bias]
        return norm(gate(self._derived.get("both", sources, self._both)(x)))

    def _both(self) -> Linear:
        both = Linear(self.w1.in_features, 2 * self.w1.out_features, device=self.w1.weight.device)
        both.weight = nn.Parameter(torch.cat([self.w1.weight, self.w2.weight]), requires_grad=False)
        both.bias = nn.Parameter(torch.cat([self.w1.bias, self.w2.bias]), requires_grad=False)
        return both

    def forward(self, x: Tensor, norm: nn.LayerNorm, residual: Tensor, share: Tensor | None = None) -> Tensor:
        """Return residual + share * SwiGLU(x) for (N, dim), share (N, 1); overwrites the residual without gradients."""
        hidden = self.hidden(x, norm)
        if torch.is_grad_enabled():
            out = self.w3(hidden)
            return residual + (out if share is None else out * share)
        share = x.new_ones(len(x), 1) if share is None else share
        kernel = self._derived.get("out", [self.w3.weight, self.w3.bias], lambda: with_bias(self.w3))
        return residual.addmm_(torch.cat([hidden.mul_(share), share], dim=1), kernel)


class DenseFFN(nn.Module):
    """One SwiGLU of the full hidden width (HMoE off)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.dense_ffn = SwiGLU(dim, hidden)
        self.dense_ln = nn.LayerNorm(hidden)

    def forward(self, x: Tensor, z: Tensor, boundary: Tensor) -> Tensor:
        """Return x + FFN(z); tokens (N, dim)."""
        return self.dense_ffn(z, self.dense_ln, residual=x)


class HMoE(nn.Module):
    """Hybrid mixture of experts.

    Args:
        dim: token width.
        hidden: width of the shared part and of each expert.
        experts: how many.
        routed: False leaves the experts out ("shared").

    Attributes:
        chosen: (n,) int64, the experts of the last call's boundary tokens.
    """

    chosen: Tensor

    exp_bias: Tensor
    steps: Tensor
    select_ffn_w1: Tensor
    select_ffn_b1: Tensor
    select_ffn_w2: Tensor
    select_ffn_b2: Tensor
    select_ffn_w3: Tensor
    select_ffn_b3: Tensor

    def __init__(self, dim: int, hidden: int, experts: int, routed: bool = True) -> None:
        super().__init__()
        self.experts, self.routed = experts, routed
        for number, (rows, columns) in enumerate(((hidden, dim), (hidden, dim), (dim, hidden)), start=1):
            weight = torch.randn(experts, rows, columns) / math.sqrt(columns)
            self.register_parameter(f"select_ffn_w{number}", nn.Parameter(weight))
            self.register_parameter(f"select_ffn_b{number}", nn.Parameter(torch.zeros(experts, rows)))
        self.register_buffer("exp_bias", torch.zeros(experts))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.shared_ffn = SwiGLU(dim, hidden)
        self.shared_ln = nn.LayerNorm(hidden)
        self.shared_gate = nn.Sequential(nn.Linear(dim, 1))
        self.select_ln = nn.LayerNorm(hidden)
        self.expert_gate = nn.Sequential(nn.Linear(dim, experts))
        self._derived = Derived()

    def forward(self, x: Tensor, z: Tensor, boundary: Tensor) -> Tensor:
        """Return x + FFN(z).

        Args:
            x: residual stream (N, dim).
            z: the same normalised.
            boundary: (n,) int64, tokens with a routed expert.
        """
        if not self.routed or not len(boundary):
            return self.shared_ffn(z, self.shared_ln, residual=x)
        if not torch.is_grad_enabled():
            return self._routed_fast(x, z, boundary)
        near = z[boundary]
        chosen, share = self.route(near)
        weight = torch.ones(len(z), 1, dtype=z.dtype, device=z.device).index_copy(0, boundary, 1 - share[:, None])
        out = self.shared_ffn(z, self.shared_ln, residual=x, share=weight)
        return out.index_add(0, boundary, self.run_experts(near, chosen) * share[:, None])

    def route(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return for tokens (n, dim) the expert (n,) int64 and its share (n,) against the shared part."""
        gates = torch.sigmoid(self.expert_gate(z))
        chosen = (gates + self.exp_bias).argmax(-1)
        self.chosen = chosen
        if self.training:
            self.balance(chosen)
        best = gates.gather(1, chosen[:, None])[:, 0]
        return chosen, torch.sigmoid(best - torch.sigmoid(self.shared_gate(z))[:, 0])

    def _routed_fast(self, x: Tensor, z: Tensor, boundary: Tensor) -> Tensor:
        """The same as `forward` in fewer passes over the tokens: shares are applied to the narrow hidden layer."""
        near = z.index_select(0, boundary)
        chosen, share = self.route(near)
        weight = z.new_ones(len(z), 1).index_copy_(0, boundary, 1 - share[:, None])
        out = self.shared_ffn(z, self.shared_ln, residual=x, share=weight)
        order = torch.argsort(chosen)
        sizes = torch.bincount(chosen, minlength=self.experts).tolist()
        near, share = near.index_select(0, order), share[order, None]
        weights = [getattr(self, f"select_ffn_{kind}{i}") for i in (1, 2, 3) for kind in "wb"]
        inside, bias, outside = self._derived.get("experts", weights, self._kernels)
        double = z.new_empty(len(near), inside.shape[2])
        start = 0
        for expert, size in enumerate(sizes):
            part = slice(start, start := start + size)
            torch.addmm(bias[expert], near[part], inside[expert], out=double[part])
        hidden = torch.cat([self.select_ln(gate(double)).mul_(share), share], dim=1)
        start = 0
        for expert, size in enumerate(sizes):
            part = slice(start, start := start + size)
            torch.mm(hidden[part], outside[expert], out=near[part])
        return out.index_add_(0, boundary[order], near)

    def _kernels(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the experts' inner weights (E, dim, 2 hidden) and bias, and the outer (E, hidden + 1, dim)."""
        inside = torch.cat([self.select_ffn_w1, self.select_ffn_w2], dim=1).transpose(1, 2).contiguous()
        bias = torch.cat([self.select_ffn_b1, self.select_ffn_b2], dim=1)
        outside = torch.cat([self.select_ffn_w3.transpose(1, 2), self.select_ffn_b3[:, None]], dim=1)
        return inside.detach(), bias.detach(), outside.detach()

    @torch.no_grad()
    def balance(self, chosen: Tensor) -> None:
        """Move the selection bias one step against the load of this batch, summed over all processes."""
        if int(self.steps) >= BALANCE_STEPS:
            return
        counts = torch.bincount(chosen, minlength=self.experts).to(self.exp_bias.dtype)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        self.exp_bias -= BALANCE_STEP * torch.sign(counts - counts.sum() / self.experts)
        self.steps += 1

    def run_experts(self, z: Tensor, chosen: Tensor) -> Tensor:
        """Run every token (n, dim) through its expert: tokens sorted by expert, one product per expert."""
        order = torch.argsort(chosen, stable=True)
        sizes = torch.bincount(chosen, minlength=self.experts).tolist()
        hidden = torch.cat(
            [
                F.silu(F.linear(part, self.select_ffn_w1[e], self.select_ffn_b1[e]))
                * F.linear(part, self.select_ffn_w2[e], self.select_ffn_b2[e])
                for e, part in enumerate(z[order].split(sizes))
            ]
        )
        out = torch.cat(
            [
                F.linear(part, self.select_ffn_w3[e], self.select_ffn_b3[e])
                for e, part in enumerate(self.select_ln(hidden).split(sizes))
            ]
        )
        return torch.empty_like(out).index_copy(0, order, out)
