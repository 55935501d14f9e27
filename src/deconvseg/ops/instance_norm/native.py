"""Instance normalisation on a CPU: float32 or images in bfloat16, either memory format, no gradients."""

import math

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.layout import is_readable
from deconvseg.ops.native.interface import call, floats, integers, pointer, threads_for, why_unreadable

BFLOAT16 = True

# Cost per element in multiplications, dominated by two reads and one write.
_OPERATIONS = 16


def decline(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> str | None:
    """Return why the kernels cannot normalise these tensors, or None."""
    if unreadable := why_unreadable("x weight bias", x, weight, bias, bfloat16=True):
        return unreadable
    if x.ndim < 3:
        return "they take images of one axis or more"
    if any(each is not None and each.shape != x.shape[1:2] for each in (weight, bias)):
        return f"weight and bias must have {x.shape[1]} values"
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
        return "gradients are plain PyTorch's"
    return None


def instance_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float) -> Tensor:
    """Normalise (B, C, \\*S); a slope of 1 leaves negative results unchanged."""
    x = x if is_readable(x) else x.contiguous()
    out = torch.empty_like(x)
    _normalise(x, weight, bias, out, eps, negative_slope)
    return out


def instance_norm_(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float) -> None:
    """Normalise (B, C, \\*S) in place; :class:`InputError` unless it is contiguous or channels-last."""
    if not is_readable(x):
        raise InputError(f"an image with strides {x.stride()} cannot be normalised in place: give a contiguous one")
    _normalise(x, weight, bias, x, eps, negative_slope)


def _normalise(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, out: Tensor, eps: float, negative_slope: float
) -> None:
    if not x.numel():
        return
    weight, bias = (None if tensor is None else tensor.float().contiguous() for tensor in (weight, bias))
    sizes = [*x.shape[:2], math.prod(x.shape[2:]), not x.is_contiguous(), threads_for(_OPERATIONS * x.numel())]
    call(
        "deconvseg_instance_norm_bfloat16" if x.dtype == torch.bfloat16 else "deconvseg_instance_norm",
        *(pointer(x, x.dtype), pointer(weight), pointer(bias), pointer(out, x.dtype)),
        *(integers(sizes), floats([eps, negative_slope])),
    )
