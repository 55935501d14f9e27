"""Convolutions with kernels of 3 along two axes or three, by Winograd's minimal filtering."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.backends import Choice, why_not_native
from deconvseg.ops.overriding import overridable
from deconvseg.ops.winograd import library, native
from deconvseg.ops.winograd.packing import Packing

__all__ = ["Packing", "choose_packing", "choose_winograd", "winograd_conv"]

_CONV = {4: "conv2d", 5: "conv3d"}


@overridable
def winograd_conv(x: Tensor, weight: Tensor, packing: Packing, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K), zeros around it, to (B, O, \\*S), without gradients.

    K is 3 x 3, 3 x 3 x 3 or that with 1 along one axis; ``packing`` keeps the transformed weights for the next call.
    The kernel returns the channels innermost in memory; where it cannot run, PyTorch's convolution does.
    """
    if not torch.compiler.is_compiling() and choose_winograd(x, weight, bias).backend == "native":
        result: Tensor = library.conv(x, packing.of(weight), bias, weight.shape[0], list(weight.shape[2:]))
        return result
    padding = tuple(length // 2 for length in weight.shape[2:])
    convolved: Tensor = getattr(F, _CONV[weight.ndim])(x, weight, bias, padding=padding)
    return convolved


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
