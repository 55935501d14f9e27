"""The selective scan in plain PyTorch, step by step: the equations of Mamba (arXiv 2312.00752)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.selective_scan.inputs import Inputs


def scan(inputs: Inputs, softplus: bool) -> Tensor:
    """Scan ``inputs.u`` (B, D, L) step by step from a zero state; returns (B, D, L)."""
    (batch, channels, _), (groups, states) = inputs.u.shape, inputs.b.shape[1:3]
    state = inputs.u.new_zeros(batch, channels, states)
    outputs = []
    # Unbound once instead of indexed at each step, so that the backward pass stacks the gradients once.
    over_time = inputs.u, time_steps(inputs, softplus), inputs.b, inputs.c
    for u, delta, *projections in zip(*(torch.unbind(tensor, -1) for tensor in over_time), strict=True):
        b, c = (projection.repeat_interleave(channels // groups, dim=1) for projection in projections)
        step = delta[..., None]
        state = torch.exp(step * inputs.a) * state + step * b * u[..., None]  # Eq. 2a
        outputs.append((c * state).sum(-1))  # Eq. 2b
    return finish(torch.stack(outputs, -1), inputs)


def time_steps(inputs: Inputs, softplus: bool) -> Tensor:
    """Return Δ with its bias added and, optionally, softplus applied."""
    delta = inputs.delta if inputs.delta_bias is None else inputs.delta + inputs.delta_bias[:, None]
    return F.softplus(delta) if softplus else delta


def finish(y: Tensor, inputs: Inputs) -> Tensor:
    """Add the skip connection and apply the gate."""
    if inputs.skip is not None:
        y = y + inputs.skip[:, None] * inputs.u
    return y if inputs.gate is None else y * F.silu(inputs.gate)
