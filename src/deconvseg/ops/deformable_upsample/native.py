"""Deformable upsampling on a CPU, computed by native.cpp: float32, two or three axes, any strides."""

import ctypes
import math

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST
from deconvseg.ops.native.interface import call, integers, pointer, why_unreadable
from deconvseg.ops.shapes import finer_size

# The kernels number the pixels of a sample with 32 bits.
_MOST_PIXELS = 2**31 - 1


def decline(features: Tensor, offsets: Tensor, weights: Tensor | None) -> str | None:
    """Return why the kernels cannot take these tensors, in one line, or None."""
    if math.prod(features.shape[2:]) > _MOST_PIXELS:
        return f"{tuple(features.shape[2:])} pixels are more than 32 bits count"
    return why_unreadable("features offsets weights", features, offsets, weights)


def forward(
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    scale: tuple[int, ...],
    receptive_field: float,
    base: Tensor | None = None,
) -> Tensor:
    """Return ``reference.sample(features, reference.positions(...))`` plus ``base``; same shapes.

    The result is channels-last if ``features`` are. Raises :class:`~deconvseg.errors.DeconvsegError` if memory runs
    out. The results of this function and of :func:`backward` are bitwise the same for any number of threads.
    """
    features, offsets, weights = _dense(features), offsets.contiguous(), _contiguous(weights)
    scaled = finer_size(features.shape[2:], scale)
    shape = (*features.shape[:2], *scaled)
    out = torch.empty(shape, dtype=features.dtype, memory_format=_format(features))
    call(
        "deconvseg_deformable_upsample",
        *(pointer(features), _layout(features), pointer(offsets), pointer(weights), pointer(out), _layout(out)),
        *_sizes(features, scaled, receptive_field),
    )
    return out if base is None else out.add_(base)


def backward(
    grad: Tensor,
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    scale: tuple[int, ...],
    receptive_field: float,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the gradients of features, offsets and weights (None without weights) from the gradient of the result."""
    grad, features, offsets, weights = _dense(grad), _dense(features), offsets.contiguous(), _contiguous(weights)
    scaled = finer_size(features.shape[2:], scale)
    of_weights = None if weights is None else torch.empty_like(weights)
    results = torch.empty_like(features), torch.empty_like(offsets), of_weights
    call(
        "deconvseg_deformable_upsample_backward",
        *(pointer(grad), _layout(grad), pointer(features), _layout(features), pointer(offsets), pointer(weights)),
        *map(pointer, results),
        *_sizes(features, scaled, receptive_field),
    )
    return results


def _sizes(features: Tensor, scaled: tuple[int, ...], receptive_field: float) -> list[object]:
    batch, channels, *size = features.shape
    # A unit offset is λ / 2 of an axis, with λ = receptive_field / (2 * size), or 1.
    factor = [length / 2 if math.isinf(receptive_field) else receptive_field / 4 for length in size]
    return [
        *(ctypes.c_int64(number) for number in (batch, channels, len(size))),
        *(integers(size), integers(scaled), (ctypes.c_double * len(factor))(*factor)),
        ctypes.c_int64(torch.get_num_threads()),
    ]


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _format(tensor: Tensor) -> torch.memory_format:
    return torch.contiguous_format if tensor.is_contiguous() else CHANNELS_LAST[tensor.ndim]


def _dense(tensor: Tensor) -> Tensor:
    """Return a channels-last tensor unchanged and make any other tensor contiguous."""
    return tensor if tensor.is_contiguous(memory_format=CHANNELS_LAST[tensor.ndim]) else tensor.contiguous()


def _layout(tensor: Tensor) -> ctypes.Array[ctypes.c_int64]:
    """Return the strides in floats from one channel to the next, and from one pixel to the next."""
    pixels = math.prod(tensor.shape[2:])
    return integers((pixels, 1) if _format(tensor) == torch.contiguous_format else (1, tensor.shape[1]))
