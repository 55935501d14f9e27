"""Instance normalisation on a CPU by compiled kernels (native.cpp): float32, either order of memory, no gradients."""

import math

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.layout import is_dense
from deconvseg.ops.native.interface import call, floats, integers, pointer, threads_for

# What an element costs, in multiplications: it is read twice and written once.
_OPERATIONS = 16


def decline(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> str | None:
    """Say why the kernels cannot normalise these tensors, or None."""
    tensors = [tensor for tensor in (x, weight, bias) if tensor is not None]
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in tensors):
        return "they compute float32 on a CPU"
    if any(tensor.layout != torch.strided for tensor in tensors):
        return "they take dense tensors"
    if x.ndim < 3:
        return "they take images of one axis or more"
    if any(tensor.shape != x.shape[1:2] for tensor in tensors[1:]):
        return f"weight and bias must have {x.shape[1]} values"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "gradients are plain PyTorch's"
    return None


def instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float) -> Tensor:
    """Normalise (B, C, \\*S); a slope of 1 leaves values below zero as they are."""
    x = x if can_read(x) else x.contiguous()
    out = torch.empty_like(x)
    _normalise(x, weight, bias, out, eps, negative_slope)
    return out


def instance_norm_(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float) -> None:
    """Normalise (B, C, \\*S) in its place; it must be contiguous, or have its channels innermost in memory."""
    if not can_read(x):
        raise InputError(f"an image with strides {x.stride()} cannot be normalised in its place: give a contiguous one")
    _normalise(x, weight, bias, x, eps, negative_slope)


def _normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, out: Tensor, eps: float, negative_slope: float
) -> None:
    if not x.numel():
        return
    weight, bias = (None if tensor is None else tensor.contiguous() for tensor in (weight, bias))
    sizes = [*x.shape[:2], math.prod(x.shape[2:]), not x.is_contiguous(), threads_for(_OPERATIONS * x.numel())]
    call(
        "deconvseg_instance_norm",
        *map(pointer, (x, weight, bias, out)),
        integers(sizes),
        floats([eps, negative_slope]),
    )


def can_read(x: Tensor) -> bool:
    """Say whether an image lies in either order of memory, so that it need not be copied."""
    return is_dense(x, last=False) or is_dense(x, last=True)
