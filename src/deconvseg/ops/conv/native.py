"""Dense convolutions with the channels innermost on a CPU: native.cpp in float32; PyTorch and bfloat16.cpp in bfloat16.

PyTorch's single convolutions in bfloat16 (oneDNN) are close to the processor's limit. Those of the gradients are called
in the form that is fast: a transposed convolution's backward pass in PyTorch takes several times as long.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.layout import CHANNELS_LAST, channels_last, is_dense
from deconvseg.ops.native.interface import call, integers, lanes, pointer, threads_for, why_unreadable
from deconvseg.ops.precision import layers_compute_in_bfloat16
from deconvseg.ops.shapes import convolved_size, finer_size

BFLOAT16 = True

_CONV = {4: F.conv2d, 5: F.conv3d}
_TRANSPOSE = {4: F.conv_transpose2d, 5: F.conv_transpose3d}


def decline(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> str | None:
    """Return why the kernels cannot take a convolution, or None."""
    if layers_compute_in_bfloat16("cpu", (x, weight, bias)):
        return "PyTorch's convolutions in bfloat16 are faster"
    return _decline(x, weight, bias, weight.shape[1])


def decline_transpose(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int]) -> str | None:
    """Return why the kernels cannot take a transposed convolution, or None."""
    if tuple(stride) != tuple(weight.shape[2:]):
        return "they are for a stride as large as the kernel"
    return _decline(x, weight, bias, weight.shape[0])


def decline_join(skip: Tensor, x: Tensor, of_skip: Tensor, spread: Tensor, bias: Tensor | None) -> str | None:
    """Return why the kernels cannot join images in bfloat16, or None."""
    tensors = skip, x, of_skip, spread, bias
    if not layers_compute_in_bfloat16("cpu", tensors):
        return "in float32 a convolution and a transposed one are added"
    if unreadable := why_unreadable("skip x of_skip spread bias", *tensors, bfloat16=True):
        return unreadable
    if skip.ndim not in CHANNELS_LAST:
        return "they take images of two or three axes"
    channels = (skip.shape[1], x.shape[1], of_skip.shape[0])
    if any(count % lanes() or not count for count in channels):
        return f"one of {channels} channels is not a multiple of {lanes()}"
    return None


def _decline(x: Tensor, weight: Tensor, bias: Tensor | None, read: int) -> str | None:
    if unreadable := why_unreadable("x weight bias", x, weight, bias, bfloat16=True):
        return unreadable
    if x.ndim not in CHANNELS_LAST or x.ndim != weight.ndim or x.shape[1] != read:
        return f"they take images of {read} channels and of two or three axes"
    if not is_dense(x, last=True):
        return "they take images with the channels innermost in memory"
    return None


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Convolve (B, I, \\*S) with weights (O, I, \\*K)."""
    if x.dtype == torch.bfloat16:
        convolved: Tensor = _CONV[x.ndim](channels_last(x), *_rounded(weight, bias), tuple(stride), tuple(padding))
        return channels_last(convolved)
    x, weight, bias = channels_last(x), weight.contiguous(), None if bias is None else bias.contiguous()
    out = _empty(x, weight.shape[0], convolved_size(x.shape[2:], weight.shape[2:], stride, padding))
    if out.numel():
        sizes = _sizes(out, x, weight.shape[2:], stride, padding)
        call("deconvseg_conv", *map(pointer, (x, weight, bias, out)), sizes)
    return out


def conv_transpose(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the transposed convolution of (B, I, \\*S) with weights (I, O, \\*K) and stride K: (B, O, \\*(S * K))."""
    if x.dtype == torch.bfloat16:
        kernel = tuple(weight.shape[2:])
        convolved: Tensor = _TRANSPOSE[x.ndim](channels_last(x), *_rounded(weight, bias), kernel)
        return channels_last(convolved)
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
    if low.dtype == torch.bfloat16:
        return _gradient_in_bfloat16(low, high, kernel, stride, padding)
    gradient, total = low.new_zeros((*kernel, high.shape[1], low.shape[1])), low.new_zeros(low.shape[1])
    if low.numel():
        sizes = _sizes(low, high, kernel, stride, padding)
        call("deconvseg_conv_weight_gradient", *map(pointer, (low, high, gradient, total)), sizes)
    return gradient.movedim((-1, -2), (0, 1)).contiguous(), total


def join(skip: Tensor, x: Tensor, of_skip: Tensor, spread: Tensor, bias: Tensor | None) -> Tensor:
    """Return the sum of a pointwise convolution of ``skip`` and a transposed convolution of ``x``, in bfloat16.

    ``skip`` is (B, O, \\*(S * K)), ``x`` (B, I, \\*S), ``of_skip`` (P, O, 1, ...) and ``spread`` (I, P, \\*K).
    """
    skip, x, written = channels_last(skip), channels_last(x), of_skip.shape[0]
    out = _empty(skip, written, skip.shape[2:])
    if out.numel():
        ones, kernel = [1] * (5 - x.ndim), spread.shape[2:]
        threads = threads_for(out.numel() * (skip.shape[1] + x.shape[1]))
        sizes = [x.shape[0], skip.shape[1], x.shape[1], written, *ones, *x.shape[2:], *ones, *kernel, threads]
        weights = [None if each is None else each.contiguous() for each in (of_skip, spread, bias)]
        images = (pointer(image, torch.bfloat16) for image in (skip, x, out))
        first, second, last = images
        call("deconvseg_join_bfloat16", first, second, *map(pointer, weights), last, integers(sizes))
    return out


def _rounded(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    return weight.bfloat16(), None if bias is None else bias.bfloat16()


def _gradient_in_bfloat16(
    low: Tensor, high: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    axes = len(kernel)
    weight = low.new_empty((low.shape[1], high.shape[1], *kernel))
    others = [low.shape[1]], list(stride), list(padding), [1] * axes, False, [0] * axes, 1, (False, True, True)
    _, gradient, total = torch.ops.aten.convolution_backward(low, high, weight, *others)
    return gradient.float(), total.float()


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
