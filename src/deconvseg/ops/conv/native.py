"""Dense convolutions with the channels innermost on a CPU, computed by native.cpp."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.layout import CHANNELS_LAST, channels_last, is_dense
from deconvseg.ops.native.interface import call, integers, lanes, pointer, threads_for, why_unreadable
from deconvseg.ops.shapes import convolved_size, finer_size


def decline(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> str | None:
    """Return why the kernels cannot take a convolution, or None."""
    high = weight.shape[1]
    if x.requires_grad and torch.is_grad_enabled() and high % lanes():
        return f"the gradient of the image needs channels in multiples of {lanes()}, not {high}"
    return _decline(x, weight, bias, high, weight.shape[0], padding)


def decline_transpose(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> str | None:
    """Return why the kernels cannot take a transposed convolution, or None."""
    if tuple(stride) != tuple(weight.shape[2:]):
        return "they are for a stride as large as the kernel"
    if weight.shape[0] % lanes():
        return f"{weight.shape[0]} channels are not a multiple of {lanes()}"
    return _decline(x, weight, bias, weight.shape[0], weight.shape[1], ())


def _decline(
    x: Tensor, weight: Tensor, bias: Tensor | None, read: int, written: int, padding: Sequence[int]
) -> str | None:
    if unreadable := why_unreadable("x weight bias", x, weight, bias):
        return unreadable
    if x.ndim not in CHANNELS_LAST or x.ndim != weight.ndim or x.shape[1] != read:
        return f"they take images of {read} channels and of two or three axes"
    if not is_dense(x, last=True):
        return "they take images with the channels innermost in memory"
    if written % lanes():
        return f"{written} channels are not a multiple of {lanes()}"
    sizes = zip(x.shape[2:], weight.shape[2:], padding or [0] * (x.ndim - 2), strict=True)
    if padding and any(length + 2 * pad < kernel for length, kernel, pad in sizes):
        return "the image is smaller than the kernel"
    return None


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K)."""
    x, weight, bias = channels_last(x), weight.contiguous(), None if bias is None else bias.contiguous()
    out = _empty(x, weight.shape[0], convolved_size(x.shape[2:], weight.shape[2:], stride, padding))
    if out.numel():
        sizes = _sizes(out, x, weight.shape[2:], stride, padding)
        call("deconvseg_conv", *map(pointer, (x, weight, bias, out)), sizes)
    return out


def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the transposed convolution of (B, I, \\*S) with weights (I, O, \\*K) and stride K: (B, O, \\*(S * K))."""
    x, weight, bias = channels_last(x), weight.contiguous(), None if bias is None else bias.contiguous()
    kernel = weight.shape[2:]
    out = _empty(x, weight.shape[1], finer_size(x.shape[2:], kernel))
    if out.numel():
        sizes = _sizes(x, out, kernel, kernel, [0] * len(kernel))
        call("deconvseg_conv_transpose", *map(pointer, (x, weight, bias, out)), sizes)
    return out


def add_conv_transpose(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """Add :func:`conv_transpose` to ``out`` (B, O, \\*(S * K)), whose channels are innermost in memory."""
    x, weight, kernel = channels_last(x), weight.contiguous(), weight.shape[2:]
    size = finer_size(x.shape[2:], kernel)
    if list(out.shape) != [x.shape[0], weight.shape[1], *size] or not is_dense(out, last=True):
        raise InputError(f"an image of shape {tuple(out.shape)} does not fit the result, which has {size} positions")
    if out.numel():
        sizes = _sizes(x, out, kernel, kernel, [0] * len(kernel))
        call("deconvseg_conv_transpose_add", *map(pointer, (x, weight, None, out)), sizes)


def weight_gradient(
    low: Tensor, high: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return the gradient of weights (L, H, \\*K) from ``low`` (B, L, \\*S) and ``high`` (B, H, ...), and low's sum."""
    low, high = channels_last(low), channels_last(high)
    gradient, total = low.new_zeros((*kernel, high.shape[1], low.shape[1])), low.new_zeros(low.shape[1])
    if low.numel():
        sizes = _sizes(low, high, kernel, stride, padding)
        call("deconvseg_conv_weight_gradient", *map(pointer, (low, high, gradient, total)), sizes)
    return gradient.movedim((-1, -2), (0, 1)).contiguous(), total


def _empty(like: Tensor, channels: int, size: Sequence[int]) -> Tensor:
    form = CHANNELS_LAST[like.ndim]
    return torch.empty((like.shape[0], channels, *size), dtype=like.dtype, device=like.device, memory_format=form)


def _sizes(low: Tensor, high: Tensor, *per_axis: Sequence[int]) -> object:
    """Return the sizes in the order of Shape in native.cpp; a 2D image gets a first axis of size 1."""
    missing = 5 - low.ndim
    kernel, stride, padding = ([neutral] * missing + list(v) for neutral, v in zip((1, 1, 0), per_axis, strict=True))
    spatial = ([1] * missing + list(image.shape[2:]) for image in (low, high))
    counts = (low.shape[0], low.shape[1], high.shape[1])
    low_size, high_size = spatial
    threads = threads_for(low.numel() * high.shape[1] * math.prod(kernel))
    return integers([*counts, *low_size, *high_size, *kernel, *stride, *padding, threads])
