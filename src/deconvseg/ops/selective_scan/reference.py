"""The selective scan in plain PyTorch, step by step: the equations of Mamba (arXiv 2312.00752), and nothing else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.selective_scan.inputs import Inputs


def scan(inputs: Inputs, softplus: bool) -> Tensor:
    """Scan ``inputs.u`` (B, D, L) from a state of zeros, one step after the other."""
    (batch, channels, _), (groups, states) = inputs.u.shape, inputs.b.shape[1:3]
    state = inputs.u.new_zeros(batch, channels, states)
    outputs = []
    # Taken apart at once, and not step by step, because then the gradients are put together at once.
    over_time = inputs.u, time_steps(inputs, softplus), inputs.b, inputs.c
    for u, delta, *projections in zip(*(torch.unbind(tensor, -1) for tensor in over_time), strict=True):
        b, c = (projection.repeat_interleave(channels // groups, dim=1) for projection in projections)
        step = delta[..., None]
        state = torch.exp(step * inputs.a) * state + step * b * u[..., None]  # Eq. 2a
        outputs.append((c * state).sum(-1))  # Eq. 2b
    return finish(torch.stack(outputs, -1), inputs)


def time_steps(inputs: Inputs, softplus: bool) -> Tensor:
    """Δ: with its bias, and through softplus."""
    delta = inputs.delta if inputs.delta_bias is None else inputs.delta + inputs.delta_bias[:, None]
    return F.softplus(delta) if softplus else delta


def finish(y: Tensor, inputs: Inputs) -> Tensor:
    """Add the skip connection and apply the gate."""
    if inputs.skip is not None:
        y = y + inputs.skip[:, None] * inputs.u
    return y if inputs.gate is None else y * F.silu(inputs.gate)
