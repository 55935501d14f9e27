"""Convolutions with kernels of 3 along each axis, by Winograd's minimal filtering, with weights packed beforehand."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.backends import Choice, why_not_native
from deconvseg.ops.winograd import library, native

__all__ = ["choose_packing", "choose_winograd", "pack_weight", "winograd_conv"]

_CONV = {4: F.conv2d, 5: F.conv3d}


def winograd_conv(x: Tensor, weight: Tensor, packed: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K), zeros around it, to (B, O, \\*S), without gradients.

    K is 3 x 3, 3 x 3 x 3 or 1 x 3 x 3, and ``packed`` is :func:`pack_weight` of the weights. The kernel returns the
    channels innermost in memory; where it cannot run, PyTorch's convolution does.
    """
    eager = not torch.compiler.is_compiling()
    if eager and packed is not None and choose_winograd(x, weight, bias).backend == "native":
        result: Tensor = library.conv(x, packed, bias, weight.shape[0], list(weight.shape[2:]))
        return result
    return _CONV[weight.ndim](x, weight, bias, padding=tuple(length // 2 for length in weight.shape[2:]))


def pack_weight(weight: Tensor) -> Tensor | None:
    """Return the transformed weights (O, I, \\*K), or None where no kernel would take them."""
    return native.pack(weight) if choose_packing(weight).backend == "native" else None


def choose_winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Choice:
    """Choose what computes :func:`winograd_conv`: ``native``, or ``reference``, which is PyTorch's."""
    given = [tensor for tensor in (x, weight, bias) if tensor is not None]
    return _choice(why_not_native(*given) or native.decline(x, weight, bias))


def choose_packing(weight: Tensor) -> Choice:
    """Choose for any image without a gradient."""
    return _choice(why_not_native(weight) or native.decline_weight(weight))


def _choice(reason: str | None) -> Choice:
    triton = "PyTorch's own convolutions are fast on a GPU"
    if reason:
        return Choice("winograd_conv", "reference", {"native": reason, "triton": triton})
    return Choice("winograd_conv", "native", {"reference": "native is faster", "triton": triton})
