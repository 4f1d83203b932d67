"""HRSAM's cycle scan: a selective state space run three times over the same sequence, without a GPU kernel.

The official operator repeats the sequence end to end, 3 L steps in a row. Two facts make it short here:

1. The recurrence is linear in its state, and the passes share inputs and decays. So the weighted sum of the three
   passes is itself one recurrence: inputs times the sum of the weights, and as initial state the weighted sum of the
   passes' initial states (0, s, and the decayed s plus s, with s the end state of the first pass).
2. The sequence is cut into chunks that run side by side, first from zero to learn each chunk's end state, then, with
   the states handed from chunk to chunk, for the outputs.

Both hold exactly; only rounding differs from the plain recurrence.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inter2former.encoders.linear import Linear

STATES, CYCLES = 32, 3
CHUNKS = 64
"""Chunks of a sequence that run side by side: a state of 6 MB, and L / 64 steps."""


def cycle_scan(x: Tensor, dt: Tensor, write: Tensor, read: Tensor, rate: Tensor, gamma: Tensor) -> Tensor:
    """Return the weighted sum over the passes of y_t = sum_n C_tn s_tn, with s_t = exp(-dt_t A) s_(t-1) + dt_t x_t B_t.

    Args:
        x, dt: (B, L, C) inputs and step sizes.
        write, read: (B, L, N), B and C of the recurrence.
        rate: (C, N), A.
        gamma: (C, passes) weights.

    Returns:
        (B, L, C).
    """
    batch, length, channels = x.shape
    chunks = min(CHUNKS, length)
    steps = -(-length // chunks)

    def in_chunks(part: Tensor) -> Tensor:
        """Return (steps, B * chunks, width); steps of size 0 at the end change nothing."""
        padded = F.pad(part, (0, 0, 0, steps * chunks - length))
        return padded.view(batch * chunks, steps, -1).transpose(0, 1).contiguous()

    sizes, inputs, writes = in_chunks(dt), in_chunks(dt * x), in_chunks(write)
    negative = -rate.T.contiguous()
    ends = x.new_zeros(batch * chunks, rate.shape[1], channels)
    decay = torch.empty_like(ends)
    for size, value, where in zip(sizes[:, :, None], inputs[:, :, None], writes[..., None], strict=True):
        _advance(ends, decay, size, negative, value, where)
    weight = gamma.sum(dim=1)
    state = _start_states(ends, sizes.sum(dim=0), negative, gamma, weight, batch)
    inputs = inputs * weight
    reads = in_chunks(read)[:, :, None]
    outputs = x.new_empty(steps, batch * chunks, 1, channels)
    parts = (sizes[:, :, None], inputs[:, :, None], writes[..., None], reads, outputs)
    for size, value, where, look, output in zip(*parts, strict=True):
        _advance(state, decay, size, negative, value, where)
        torch.bmm(look, state, out=output)
    return outputs[:, :, 0].transpose(0, 1).reshape(batch, steps * chunks, channels)[:, :length]


def _advance(state: Tensor, decay: Tensor, size: Tensor, negative: Tensor, x: Tensor, write: Tensor) -> None:
    """Do one step in place: state (M, N, C); size, x (M, 1, C); write (M, N, 1); decay is room to work in."""
    torch.mul(size, negative, out=decay)
    state.mul_(decay.exp_()).addcmul_(x, write)


def _start_states(ends: Tensor, sizes: Tensor, negative: Tensor, gamma: Tensor, weight: Tensor, batch: int) -> Tensor:
    """Return the weighted sum over the passes of the state before each chunk, (B * chunks, N, C).

    Args:
        ends: (B * chunks, N, C) state after each chunk when it starts from 0.
        sizes: (B * chunks, C) sum of the step sizes of each chunk.
    """
    ends, sizes = ends.unflatten(0, (batch, -1)), sizes.unflatten(0, (batch, -1))
    # A state that enters the first chunk is multiplied by `decayed` on its way to a chunk, and `reached` is added.
    total = sizes.cumsum(dim=1)
    decayed = torch.exp((total - sizes)[:, :, None] * negative)
    state = torch.zeros_like(ends[:, 0])
    reached = []
    for passed, end in zip(torch.exp(sizes[:, :, None] * negative).unbind(1), ends.unbind(1), strict=True):
        reached.append(state)
        state = torch.addcmul(end, passed, state)
    whole = torch.exp(total[:, -1, None] * negative)
    first, entering = torch.zeros_like(state), torch.zeros_like(state)
    for share in gamma.unbind(1):
        entering = entering + share * first
        first = whole * first + state
    return (decayed * entering[:, None] + weight * torch.stack(reached, dim=1)).flatten(0, 1)


class ScanBlock(nn.Module):
    """x + out(z * LN(scan(a))), where a and z come from one projection of LN(x)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.ssm_proj_bias = nn.Parameter(torch.zeros(dim))
        self.As_log = nn.Parameter(torch.zeros(dim, STATES))
        self.Ds = nn.Parameter(torch.ones(dim))
        self.gamma = nn.Parameter(torch.ones(dim, CYCLES, 1))
        self.in_norm = nn.LayerNorm(dim)
        self.in_proj = nn.Sequential(Linear(dim, 2 * dim))
        self.ssm_proj = Linear(dim, dim + 2 * STATES)
        self.out_norm = nn.LayerNorm(dim)
        self.out_proj = Linear(dim, dim)

    def forward(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """Map tokens x (B, sum of lengths, dim); sequences of these lengths are scanned each on its own."""
        flat = x.flatten(0, 1)
        a, z = F.silu(self.in_proj(self.in_norm(flat))).split(self.dim, dim=1)
        step, write, read = self.ssm_proj(a.contiguous()).split([self.dim, STATES, STATES], dim=1)
        step = F.softplus(step + self.ssm_proj_bias)
        rate, gamma = torch.exp(self.As_log), self.gamma[:, :, 0]
        a = a.view(x.shape)
        parts = [part.view(*x.shape[:2], -1).split(list(lengths), dim=1) for part in (a, step, write, read)]
        scanned = torch.cat([cycle_scan(x, dt, b, c, rate, gamma) for x, dt, b, c in zip(*parts, strict=True)], dim=1)
        y = scanned + (gamma.sum(dim=1) * self.Ds) * a
        gated = z * self.out_norm(y.flatten(0, 1))
        return self.out_proj(gated, residual=flat).view(x.shape)
