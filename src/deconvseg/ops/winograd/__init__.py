"""Convolutions with kernels of 3 along two or three axes, by Winograd's minimal filtering."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.backends import Choice, choose, chosen
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import as_computed, layers_compute_in_bfloat16
from deconvseg.ops.winograd import library
from deconvseg.ops.winograd.packing import Packing

__all__ = ["Packing", "choose_packing", "choose_winograd", "packed_type", "winograd_conv"]

_CONV = {4: "conv2d", 5: "conv3d"}


@overridable
def winograd_conv(x: Tensor, weight: Tensor, packing: Packing, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K) and zero padding to (B, O, \\*S), without gradients.

    K is 3 x 3, 3 x 3 x 3, or 3 x 3 x 3 with 1 along one axis; ``packing`` caches the transformed weights. The kernel's
    result has the channels innermost in memory; if the kernel declines, PyTorch's convolution runs. Under an autocast
    to bfloat16 the result is bfloat16, and so are the factors of the kernel's products.
    """
    backend = chosen(library.WINOGRAD, x, weight, bias)
    if backend != "reference":
        packed, kernel = packing.of(weight, backend, packed_type(x, weight, bias)), list(weight.shape[2:])
        image, _, bias = as_computed(x, weight, bias)
        result: Tensor = library.conv(image, packed, bias, weight.shape[0], kernel, backend)
        return result
    padding = tuple(length // 2 for length in weight.shape[2:])
    convolved: Tensor = getattr(F, _CONV[weight.ndim])(x, weight, bias, padding=padding)
    return convolved


def packed_type(*tensors: Tensor | None) -> torch.dtype:
    """Return the precision in which an image, weights and a bias are multiplied."""
    return torch.bfloat16 if layers_compute_in_bfloat16("cpu", tensors) else torch.float32


def choose_winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Choice:
    """Return the backend of :func:`winograd_conv`."""
    return choose(library.WINOGRAD, x, weight, bias)


def choose_packing(weight: Tensor) -> Choice:
    """Return the backend of :func:`winograd_conv` with these weights for an image without a gradient."""
    weight = weight.detach()
    return choose_winograd(weight.new_empty((1, weight.shape[1], *weight.shape[2:])), weight)
