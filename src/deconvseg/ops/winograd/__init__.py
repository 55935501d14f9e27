"""Convolutions with kernels of 3 along two or three axes, by Winograd's minimal filtering."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.backends import Choice, choose, chosen
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import as_computed, layers_compute_in_bfloat16
from deconvseg.ops.winograd import library
from deconvseg.ops.winograd.packing import packed

__all__ = ["choose_packing", "choose_winograd", "pack", "winograd_conv"]

_CONV = {4: "conv2d", 5: "conv3d"}


@overridable
def winograd_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K) and zero padding to (B, O, \\*S), without gradients.

    K is 3 x 3, 3 x 3 x 3, or 3 x 3 x 3 with 1 along one axis. The transformed weights are cached (:func:`pack`). The
    kernel's result has the channels innermost in memory; if the kernel declines, PyTorch's convolution runs. Under an
    autocast to bfloat16 the result is bfloat16, and so are the factors of the kernel's products.
    """
    backend = chosen(library.WINOGRAD, x, weight, bias)
    if backend != "reference":
        image, _, bias = as_computed(x, weight, bias)
        # Not converted weights, because the cache of their transforms belongs to the layer's own.
        result: Tensor = library.conv(image, weight, bias, backend)
        return result
    padding = tuple(length // 2 for length in weight.shape[2:])
    convolved: Tensor = getattr(F, _CONV[weight.ndim])(x, weight, bias, padding=padding)
    return convolved


def choose_winograd(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Choice:
    """Return the backend of :func:`winograd_conv`."""
    return choose(library.WINOGRAD, x, weight, bias)


def choose_packing(weight: Tensor) -> Choice:
    """Return the backend of :func:`winograd_conv` with these weights for an image without a gradient."""
    weight = weight.detach()
    return choose_winograd(weight.new_empty((1, weight.shape[1], *weight.shape[2:])), weight)


def pack(weight: Tensor, backend: str) -> None:
    """Transform the weights of a convolution for a backend now, rather than at the first call."""
    dtype = torch.bfloat16 if layers_compute_in_bfloat16("cpu", (weight,)) else torch.float32
    packed(weight, library.WINOGRAD.kernels(backend, weight), dtype)
