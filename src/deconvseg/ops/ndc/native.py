"""Nonnegative deconvolution on a CPU, computed by native.cpp: float32, one to three axes, any strides."""

import ctypes
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.ops.native.interface import call, floats, integers, pointer, threads_for, why_unreadable
from deconvseg.ops.triton_support import empty_image

# From three image channels per group on, PyTorch's dense convolutions are faster (measured with one thread).
_MOST_CHANNELS_PER_GROUP = 2


def supports(x: Tensor, source: Tensor, filters: Tensor) -> str | None:
    """Return why the kernels cannot take these tensors, in one line, or None."""
    return why_unreadable("x source filters", x, source, filters)


def decline(x: Tensor, source: Tensor, filters: Tensor) -> str | None:
    """Return why the kernels cannot or should not take these tensors, in one line, or None."""
    per_group = filters.shape[0] * filters.shape[1] // max(1, source.shape[1])
    if per_group > _MOST_CHANNELS_PER_GROUP:
        return f"{per_group} image channels per group: PyTorch's dense convolutions are faster"
    return supports(x, source, filters)


def update(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float) -> Tensor:
    """Return one multiplicative update (Deconver, Eq. 7): (B, E, \\*S) in the memory format of ``source``.

    The tensors are float32 with any strides. The result is bitwise the same for any number of threads. Raises
    :class:`~deconvseg.errors.DeconvsegError` without a library, or if memory runs out.
    """
    out = empty_image(source, source.shape[1], source.dtype)
    if out.numel() > 0:
        filters = filters.contiguous()
        _call("deconvseg_ndc_update", (x, source, filters, out), (x, source, out), filters, groups, eps)
    return out


def update_backward(
    grad: Tensor, x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of ``x``, ``source`` and ``filters`` from that of the result of :func:`update`; same errors.

    The gradients of ``x`` and ``source`` have the memory format of ``source``; that of ``filters`` is contiguous.
    """
    of_x, of_source = (empty_image(source, image.shape[1], source.dtype) for image in (x, source))
    of_filters = torch.empty(filters.shape, dtype=filters.dtype)
    if source.numel() == 0:
        return of_x.zero_(), of_source, of_filters.zero_()
    filters = filters.contiguous()
    tensors = (grad, x, source, filters, of_x, of_source, of_filters)
    strided = (grad, x, source, of_x, of_source)
    _call("deconvseg_ndc_update_backward", tensors, strided, filters, groups, eps)
    return of_x, of_source, of_filters


def _call(
    function: str, tensors: Sequence[Tensor], strided: Sequence[Tensor], filters: Tensor, groups: int, eps: float
) -> None:
    """Call a kernel; 1D and 2D tensors are passed as 3D."""
    image = strided[0]
    missing = 5 - image.ndim
    channels = (filters.shape[0], filters.shape[1] * groups)
    sizes = [image.shape[0], *channels, *[1] * missing, *image.shape[2:], *[1] * missing, *filters.shape[2:], groups]
    strides = itertools.chain.from_iterable(
        (*tensor.stride()[:2], *[0] * missing, *tensor.stride()[2:]) for tensor in strided
    )
    # Three correlations, each with a multiplication and an addition per filter weight and position.
    threads = threads_for(6 * image.shape[0] * math.prod(image.shape[2:]) * filters.numel())
    numbers = integers(sizes), integers([*strides]), floats([eps]), ctypes.c_int64(threads)
    call(function, *map(pointer, tensors), *numbers)
