"""Dense convolutions with the channels innermost in memory: those of a Deconver network outside its blocks."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.backends import Choice, choose, chosen
from deconvseg.ops.conv import library
from deconvseg.ops.layout import is_dense, with_innermost_strides
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import as_computed, in_full_precision, layers_compute_in_bfloat16, without_autocast

__all__ = [
    *("choose_conv", "choose_conv_transpose", "choose_onednn"),
    *("conv", "conv_transpose", "has_transpose_kernel", "join", "onednn_conv"),
]

# By name, so that a function is called in its current version if other code has replaced it.
_CONV = {3: "conv1d", 4: "conv2d", 5: "conv3d"}
_TRANSPOSE = {3: "conv_transpose1d", 4: "conv_transpose2d", 5: "conv_transpose3d"}

# Positions per weight of an upsampling, below which the product of the weights, in float32, costs more than it saves.
_FEWEST, _FEWEST_IN_BFLOAT16 = 4, 32


@overridable
def conv(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K), like ``torch.nn.functional.conv3d`` in 1, 2 or 3 axes.

    On a CPU, a native kernel convolves images with the channels innermost in memory where that is faster.
    """
    reason = _why_pytorch(x, weight, stride, padding)
    backend = chosen(library.CONV, x, weight, bias, settings=(stride, padding), reason=reason)
    if backend != "reference":
        result: Tensor = library.conv(x, weight, bias, list(stride), list(padding), backend)
        return result
    if x.is_cpu and layers_compute_in_bfloat16("cpu", (x, weight, bias)):
        x = with_innermost_strides(x)
    convolved: Tensor = getattr(F, _CONV[weight.ndim])(x, weight, bias, tuple(stride), tuple(padding))
    return convolved


@overridable
def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Sequence[int]) -> Tensor:
    """Apply a transposed convolution with weights (I, O, \\*K) to (B, I, \\*S), like ``conv_transpose3d``."""
    backend = chosen(library.TRANSPOSE, x, weight, bias, settings=(stride,))
    return _transpose(x, weight, bias, stride, backend)


@overridable
def onednn_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I / groups, \\*K), like ``torch.nn.functional.conv3d`` in 2 or 3 axes.

    On a CPU, oneDNN convolves images with the channels innermost in memory if no gradient is needed. For few channels
    or threads PyTorch would select kernels that are slow for such images.
    """
    settings = list(stride), list(padding), list(dilation), groups
    backend = chosen(library.ONEDNN, x, weight, bias)
    if backend != "reference":
        result: Tensor = library.onednn_conv(x, weight, bias, *settings, backend)
        return result
    convolved: Tensor = getattr(F, _CONV[weight.ndim])(x, weight, bias, *map(tuple, settings[:3]), groups)
    return convolved


def choose_onednn(x: Tensor, weight: Tensor, bias: Tensor | None, **settings: object) -> Choice:
    """Return the backend of :func:`onednn_conv`, which does not depend on the settings."""
    return choose(library.ONEDNN, x, weight, bias)


@overridable
def join(skip: Tensor, x: Tensor, spread: Tensor, bias: Tensor | None, fuse: Tensor) -> Tensor:
    """Upsample ``x`` by a transposed convolution, concatenate it to ``skip``, and apply a pointwise convolution.

    Equals ``conv(cat([skip, conv_transpose(x, spread, bias, stride=K)]), fuse)`` with ``skip`` (B, O, \\*(S * K)),
    ``x`` (B, I, \\*S), ``spread`` (I, J, \\*K) and ``fuse`` (P, O + J, 1, ...), but computes no intermediate image,
    because the composition of the two linear maps is one linear map. Returns (B, P, \\*(S * K)). In bfloat16 all sums,
    and the product of the weights, are computed in float32.
    """
    ones, channels, kernel = (1,) * (x.ndim - 2), skip.shape[1], spread.shape[2:]
    zeros = (0,) * len(ones)
    fine = (x.shape[0], *(length * step for length, step in zip(x.shape[2:], kernel, strict=True)))
    lowered = layers_compute_in_bfloat16(x.device.type, (skip, x, spread, bias, fuse))
    fewest = (_FEWEST_IN_BFLOAT16 if lowered else _FEWEST) * spread.shape[0] * kernel.numel()
    # Shapes that do not fit raise an error here.
    if (skip.shape[0], *skip.shape[2:]) != fine or math.prod(fine) < fewest:
        return _join_apart(skip, x, spread, bias, fuse)
    of_skip, of_x = fuse[:, :channels], fuse[:, channels:].flatten(1)
    if lowered:
        backend = chosen(library.JOIN, skip, x, of_skip, spread, bias)
        if backend == "reference":
            return _join_apart(skip, x, spread, bias, fuse)
        return _join_in_bfloat16(skip, x, spread, bias, (of_skip, of_x), backend)
    weight = torch.einsum("ij...,pj->ip...", spread, of_x)
    total = None if bias is None else of_x @ bias
    result = conv(skip, of_skip, total, stride=ones, padding=zeros)
    differentiated = torch.is_grad_enabled() and any(t.requires_grad for t in (result, x, weight))
    backend = chosen(library.TRANSPOSE, x, weight, None, settings=(kernel,))
    if differentiated or backend == "reference" or not is_dense(result, last=True):
        return result + _transpose(x, weight, None, kernel, backend)
    library.add_conv_transpose(result, x, weight, backend)
    return result


def _join_apart(skip: Tensor, x: Tensor, spread: Tensor, bias: Tensor | None, fuse: Tensor) -> Tensor:
    axes = x.ndim - 2
    both = torch.cat([skip, conv_transpose(x, spread, bias, stride=spread.shape[2:])], dim=1)
    return conv(both, fuse, None, stride=(1,) * axes, padding=(0,) * axes)


def _join_in_bfloat16(
    skip: Tensor, x: Tensor, spread: Tensor, bias: Tensor | None, fuse: tuple[Tensor, Tensor], backend: str
) -> Tensor:
    # In float32, so that the product of the weights is rounded once.
    with without_autocast(x.device.type):
        of_skip, of_x = in_full_precision(*fuse)
        weight = torch.einsum("ij...,pj->ip...", spread.to(of_x.dtype), of_x)
        total = None if bias is None else of_x @ bias.to(of_x.dtype)
        result: Tensor = library.join(skip.bfloat16(), x.bfloat16(), of_skip, weight, total, backend)
    return result


def choose_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Sequence[int],
    padding: Sequence[int],
    reason: str | None = None,
) -> Choice:
    """Return the backend of :func:`conv`; ``reason`` is a caller's reason for plain PyTorch."""
    reason = reason or _why_pytorch(x, weight, stride, padding)
    return choose(library.CONV, x, weight, bias, settings=(stride, padding), reason=reason)


def choose_conv_transpose(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Sequence[int], reason: str | None = None
) -> Choice:
    """Return the backend of :func:`conv_transpose`; ``reason`` is a caller's reason for plain PyTorch."""
    return choose(library.TRANSPOSE, x, weight, bias, settings=(stride,), reason=reason)


def has_transpose_kernel(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: Sequence[int]) -> bool:
    """Return whether a kernel computes :func:`conv_transpose`, rather than PyTorch."""
    return chosen(library.TRANSPOSE, x, weight, bias, settings=(stride,)) != "reference"


def _why_pytorch(x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> str | None:
    """Return why no backend computes this size, or its gradient, which has to be a :func:`conv_transpose`, or None."""
    if any(length + 2 * pad < size for length, size, pad in zip(x.shape[2:], weight.shape[2:], padding, strict=False)):
        return "the image is smaller than the kernel"
    if not (x.requires_grad and torch.is_grad_enabled()):
        return None
    kernel = tuple(weight.shape[2:])
    # The sizes last, because compiled code is specialised on what is asked of them.
    by_kernel = tuple(stride) == kernel and not any(padding)
    if by_kernel and not any(length % step for length, step in zip(x.shape[2:], kernel, strict=False)):
        return None
    return "the gradient of the image needs a stride as large as the kernel, of which the image is a multiple"


def _transpose(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], backend: str) -> Tensor:
    if backend != "reference":
        result: Tensor = library.conv_transpose(*as_computed(x, weight, bias), backend)
        return result
    convolved: Tensor = getattr(F, _TRANSPOSE[weight.ndim])(x, weight, bias, tuple(stride))
    return convolved
