"""The selective scan on a CPU, computed by native.cpp: float32, any strides, some tens of states."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.ops.native.interface import call, integers, lanes, pointer, pointers, threads_for, why_unreadable
from deconvseg.ops.selective_scan.inputs import Inputs

_MOST_VECTORS = 4
# Cost of one step of one state, in multiplications.
_OPERATIONS = 16


def decline(
    u: Tensor,
    delta: Tensor,
    b: Tensor,
    c: Tensor,
    gate: Tensor | None,
    a: Tensor,
    skip: Tensor | None,
    delta_bias: Tensor | None,
) -> str | None:
    """Return why the kernels cannot take these tensors, in one line, or None."""
    inputs = Inputs(u, delta, b, c, gate, a, skip, delta_bias)
    if unreadable := why_unreadable(" ".join(Inputs._fields), *inputs):
        return unreadable
    most = _MOST_VECTORS * lanes()
    return f"{a.shape[1]} states, and the native kernels hold up to {most}" if a.shape[1] > most else None


def scan(inputs: Inputs, softplus: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Return the result of ``reference.scan`` and, with ``keep``, the states before every chunk, (B, D, chunks, N).

    :func:`scan_backward` needs these states; without ``keep`` they are (0,). The results are bitwise the same for any
    number of threads. Raises :class:`~deconvseg.errors.DeconvsegError` without a library, or if memory runs out.
    """
    inputs = inputs.convert(_contiguous)
    out, states = _empty(inputs.u.shape), _empty(inputs.shape_of_states() if keep else (0,))
    if out.numel():
        arguments = pointers(inputs), pointer(out), pointer(states if keep else None)
        call("deconvseg_selective_scan", *arguments, *_sizes(inputs, softplus))
    return out, states


def scan_backward(grad: Tensor, states: Tensor, inputs: Inputs, softplus: bool) -> Inputs:
    """Return the contiguous gradients of the inputs from the gradient of the result of :func:`scan`."""
    grad, inputs = grad.contiguous(), inputs.convert(_contiguous)
    gradients = inputs.convert(lambda *tensors: tuple(_empty(tensor.shape) for tensor in tensors))
    if grad.numel() == 0:
        return gradients.convert(lambda *tensors: tuple(tensor.zero_() for tensor in tensors))
    arguments = pointer(grad), pointer(states), pointers(inputs), pointers(gradients)
    call("deconvseg_selective_scan_backward", *arguments, *_sizes(inputs, softplus))
    return gradients


def _empty(shape: Sequence[int]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32)


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)


def _sizes(inputs: Inputs, softplus: bool) -> tuple[object, ctypes.c_int64]:
    batch, channels, steps = inputs.u.shape
    groups, states = inputs.b.shape[1:3]
    threads = threads_for(_OPERATIONS * batch * channels * steps * states)
    return integers([batch, channels, groups, states, steps, softplus]), ctypes.c_int64(threads)
