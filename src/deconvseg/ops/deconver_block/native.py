"""Whole Deconver blocks on a CPU, computed by native.cpp."""

import torch
from torch import Tensor

from deconvseg.ops.deconver_block.weights import Weights
from deconvseg.ops.layout import CHANNELS_LAST, channels_last
from deconvseg.ops.native.interface import call, floats, integers, pointer, pointers, threads_for, why_unreadable
from deconvseg.ops.precision import layers_compute_in_bfloat16

_RATIOS = (1, 2, 4)
_NAMES = " ".join(("x", *Weights._fields))
BFLOAT16 = True
# Ends of the functions' names by the type of the images.
_OF = {torch.float32: "", torch.bfloat16: "_bfloat16"}
_DEPTH_TAPS = 15  # kDepthTaps of shape.h


def decline(x: Tensor, *weights: Tensor) -> str | None:
    """Return why the kernels cannot take these tensors, or None."""
    given = Weights(*weights)
    channels, ratio, *kernel = given.filters.shape
    hidden, sources, ones = given.expand.shape[0], channels * ratio, (1,) * len(kernel)
    shapes = [(channels, channels, *ones), (channels, ratio, *kernel)]
    for rows, columns in ((sources, channels), (channels, sources), (hidden, channels), (channels, hidden)):
        shapes += [(rows, columns, *ones), (rows,)]
    if unreadable := why_unreadable(_NAMES, x, *weights, bfloat16=True):
        return unreadable
    if x.ndim not in CHANNELS_LAST or x.ndim != given.filters.ndim or any(size % 2 == 0 for size in kernel):
        return "they take images of two or three axes and filters of as many, of odd sizes"
    if x.shape[1] != channels or [tuple(weight.shape) for weight in weights] != shapes:
        return "the shapes of the weights are not those of one group per channel"
    if ratio % 2 and layers_compute_in_bfloat16("cpu", (x, *weights)):
        return "in bfloat16 they take two source channels at a time, and each channel has one"
    if ratio not in _RATIOS:
        return f"they take 1, 2 or 4 source channels per channel, in groups of one channel, not {ratio}"
    if kernel[0] > _DEPTH_TAPS:
        return f"kernel size {kernel[0]} is over {_DEPTH_TAPS}"
    return None


def forward(x: Tensor, weights: Weights, eps: float, norm_eps: float, keep: bool) -> tuple[Tensor, Tensor]:
    """Return the block's result and, if ``keep``, the image between mixer and MLP (otherwise an empty tensor)."""
    x, weights = channels_last(x), _contiguous(weights)
    result, between = torch.empty_like(x), torch.empty_like(x) if keep else x.new_empty(0)
    if x.numel():
        images = [pointer(image, x.dtype) for image in (x, result, between if keep else None)]
        call(f"deconvseg_deconver_block{_OF[x.dtype]}", *images, *_rest(x, weights, eps, norm_eps))
    return result, between


def backward(
    grad: Tensor, x: Tensor, between: Tensor, weights: Weights, eps: float, norm_eps: float
) -> tuple[Tensor, ...]:
    """Return the gradients of ``x`` and of the weights from the gradient of the result."""
    images = grad, x, between = [channels_last(image.to(x.dtype)) for image in (grad, x, between)]
    weights = _contiguous(weights)
    of_x, of_weights = torch.empty_like(x), [weight.new_zeros(weight.shape) for weight in weights]
    if x.numel():
        given = [pointer(image, x.dtype) for image in images]
        results = pointer(of_x, x.dtype), pointers(of_weights)
        rest = _rest(x, weights, eps, norm_eps)
        call(f"deconvseg_deconver_block_backward{_OF[x.dtype]}", *given, *rest, *results)
    return of_x, *of_weights


def _contiguous(weights: Weights) -> Weights:
    return Weights(*(weight.contiguous() for weight in weights))


def _rest(x: Tensor, weights: Weights, eps: float, norm_eps: float) -> tuple[object, ...]:
    """Return the sizes in the order of block::Shape, the weights and the constants; a 2D image gets a height of 1."""
    batch, channels, *size = x.shape
    kernel = list(weights.filters.shape[2:])
    if len(size) == 2:
        size, kernel = [size[0], 1, size[1]], [kernel[0], 1, kernel[1]]
    threads = threads_for(x.numel() // max(1, channels) * sum(weight.numel() for weight in weights))
    sizes = [batch, channels, *size, *kernel, weights.filters.shape[1], weights.expand.shape[0], threads]
    return integers(sizes), pointers(weights), floats((eps, norm_eps))
