"""The selective scan in plain PyTorch, in chunks of steps; it runs where no kernel does.

Within a chunk the linear recurrence is solved by combining neighbours (Blelloch's scan: about twice the products, in a
logarithmic number of operations), without dividing cumulative products, which overflow. Only the state is carried
between chunks. The states of a chunk are recomputed for the gradients, so that only one chunk's states are in memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.selective_scan.inputs import Inputs
from deconvseg.ops.selective_scan.reference import finish, time_steps

CHUNK = 128
# Levels of chunks of chunks if the number of steps is dynamic: enough for 128 ** 4 steps, which exceed any memory.
_MOST_LEVELS = 4


def scan(inputs: Inputs, softplus: bool, *, recompute: bool = True) -> Tensor:
    """Return the same as ``reference.scan``.

    With ``recompute=False`` autograd computes the gradients and saves all states; exports, transforms and second
    derivatives need this. It calls the same operators for any number of steps, so that a traced program is correct for
    other lengths.
    """
    delta = time_steps(inputs, softplus)
    tensors = delta, delta * inputs.u, inputs.b, inputs.c, inputs.a
    y: Tensor = _Recomputing.apply(*tensors) if recompute else _scan(*tensors)  # type: ignore[no-untyped-call]
    return finish(y, inputs)


def solve(decay: Tensor, value: Tensor) -> Tensor:
    """Return the states h[t] = decay[t] h[t-1] + value[t] with h[-1] = 0; all tensors are (..., T, N)."""
    if value.shape[-2] == 1:
        return value
    even_decay, even_value = decay[..., ::2, :], value[..., ::2, :]
    odd_decay, odd_value = decay[..., 1::2, :], value[..., 1::2, :]
    pairs = odd_value.shape[-2]
    odd = solve(odd_decay * even_decay[..., :pairs, :], odd_decay * even_value[..., :pairs, :] + odd_value)
    # Every even step except the first follows an odd one.
    later = even_decay[..., 1:, :] * odd[..., : even_value.shape[-2] - 1, :] + even_value[..., 1:, :]
    even = torch.cat([even_value[..., :1, :], later], -2)
    states = torch.stack([even[..., :pairs, :], odd], -2).flatten(-3, -2)
    return states if 2 * pairs == value.shape[-2] else torch.cat([states, even[..., pairs:, :]], -2)


def _scan(delta: Tensor, weighted: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
    """Return y from Δ and Δ · u."""
    decay = torch.exp(delta[..., None] * a[:, None])
    states = _all_states(decay, weighted[..., None] * _of_channels(b, weighted), _levels(delta.shape[-1]))
    return (states * _of_channels(c, states)).sum(-1)


def _levels(steps: int) -> int:
    """Return the number of levels of chunks; a tracer's dynamic number of steps is not of type ``int``."""
    if type(steps) is not int:
        return _MOST_LEVELS
    return next(level for level in range(1, 64) if CHUNK**level >= steps)


def _all_states(decay: Tensor, value: Tensor, levels: int) -> Tensor:
    """Return the same as :func:`solve`, with a number of operators that depends only on ``levels``."""
    steps = value.shape[-2]
    decay, value = _cut(decay), _cut(value)
    distance = 1
    while distance < CHUNK:
        earlier = value[..., :-distance, :]
        later = value[..., distance:, :] + decay[..., distance:, :] * earlier
        value = torch.cat([value[..., :distance, :], later], -2)
        decay = torch.cat([decay[..., :distance, :], decay[..., distance:, :] * decay[..., :-distance, :]], -2)
        distance *= 2
    if levels > 1:
        ends = _all_states(decay[..., -1, :], value[..., -1, :], levels - 1)
        before = F.pad(ends, (0, 0, 1, 0))[..., :-1, :]
        value = value + decay * before[..., None, :]
    return value.flatten(-3, -2)[..., :steps, :]


def _cut(image: Tensor) -> Tensor:
    """Split (..., T, N) into chunks (..., chunks, CHUNK, N), zero-padded after the last step."""
    steps = image.shape[-2]
    chunks = (steps + CHUNK - 1) // CHUNK
    return F.pad(image, (0, 0, 0, chunks * CHUNK - steps)).reshape(*image.shape[:-2], chunks, CHUNK, image.shape[-1])


def _states(state: Tensor, a: Tensor, delta: Tensor, weighted: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the decays and states (B, D, T, N) of a chunk that starts from ``state`` (B, D, N)."""
    decay = torch.exp(delta[..., None] * a[:, None])
    value = weighted[..., None] * _of_channels(b, weighted)
    first = value[..., :1, :] + decay[..., :1, :] * state[:, :, None]
    return decay, solve(decay, torch.cat([first, value[..., 1:, :]], -2))


def _of_channels(projection: Tensor, like: Tensor) -> Tensor:
    """Expand a projection (B, G, N, T) from groups to channels, (B, D, T, N)."""
    each = like.shape[1] // projection.shape[1]
    return projection.mT[:, :, None].expand(-1, -1, each, -1, -1).flatten(1, 2)


def _of_groups(gradient: Tensor, like: Tensor) -> Tensor:
    """Return gradients (B, D, T, N) summed over the channels of each group, (B, G, N, T)."""
    return torch.unflatten(gradient, 1, (like.shape[1], -1)).sum(2).mT


class _Recomputing(torch.autograd.Function):
    """:func:`_scan` that saves only the state before every chunk; the gradients are those of README.md."""

    @staticmethod
    def forward(ctx: Any, delta: Tensor, weighted: Tensor, b: Tensor, c: Tensor, a: Tensor) -> Tensor:
        batch, channels, steps = delta.shape
        # Written in place: kept tensors between short-lived ones would fragment memory.
        y, before = torch.empty_like(delta), delta.new_zeros(-(-steps // CHUNK), batch, channels, a.shape[1])
        for index, state in enumerate(before):
            now = slice(index * CHUNK, (index + 1) * CHUNK)
            _, states = _states(state, a, delta[..., now], weighted[..., now], b[..., now])
            y[..., now] = (states * _of_channels(c[..., now], states)).sum(-1)
            before[index + 1 : index + 2] = states[..., -1, :]
        ctx.save_for_backward(delta, weighted, b, c, a, before)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        *tensors, before = ctx.saved_tensors
        if torch.is_grad_enabled():  # second derivatives are needed
            inputs = [tensor.view_as(tensor) for tensor in tensors]
            wanted = [tensor if tensor.requires_grad else tensor.requires_grad_() for tensor in inputs]
            return torch.autograd.grad(_scan(*wanted), wanted, grad, create_graph=True)
        delta, weighted, b, c, a = tensors
        of_delta, of_weighted, of_b, of_c, of_a = map(torch.zeros_like, tensors)
        carried = torch.zeros_like(before[0])
        for index in reversed(range(len(before))):
            now = slice(index * CHUNK, (index + 1) * CHUNK)
            state, of_y, step = before[index], grad[..., now, None], delta[..., now, None]
            decay, states = _states(state, a, delta[..., now], weighted[..., now], b[..., now])
            direct = of_y * _of_channels(c[..., now], states)
            direct[..., -1, :] += carried
            after = F.pad(decay[..., 1:, :], (0, 0, 0, 1))
            of_states = solve(after.flip(-2), direct.flip(-2)).flip(-2)
            through = decay * of_states
            carried = through[..., 0, :]
            exponents = through * torch.cat([state[:, :, None], states[..., :-1, :]], -2)
            of_delta[..., now] = (exponents * a[:, None]).sum(-1)
            of_weighted[..., now] = (of_states * _of_channels(b[..., now], states)).sum(-1)
            of_b[..., now] = _of_groups(of_states * weighted[..., now, None], b)
            of_c[..., now] = _of_groups(of_y * states, c)
            of_a += (exponents * step).sum((0, 2))
        return of_delta, of_weighted, of_b, of_c, of_a
