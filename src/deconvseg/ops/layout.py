"""Memory format of images: operators return channels-last results if their first image is channels-last."""

import torch
from torch import Tensor

from deconvseg.ops.overriding import overridable
from deconvseg.ops.torch_internals import constant_to_compilers, is_exporting_onnx, transforms_are_active

# PyTorch's channels-last memory format by the number of an image's axes.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(image: Tensor) -> bool:
    """Return whether the channels of a (B, C, \\*S) image, rather than its last axis, are innermost in memory.

    There may be gaps between positions; :func:`is_dense` says whether a kernel can read the image without a copy.
    """
    return image.shape[1] > 1 and image.stride(1) == 1 and image.shape[2:].numel() > 1


def is_dense(image: Tensor, *, last: bool) -> bool:
    """Return whether an image is dense in memory, in channels-last format if ``last``, else in contiguous format.

    An image whose sizes of 1 make the two formats equal has both.
    """
    form = CHANNELS_LAST.get(image.ndim) if last else torch.contiguous_format
    return form is not None and image.is_contiguous(memory_format=form)


def is_readable(image: Tensor) -> bool:
    """Return whether an image is dense in either format, so that a kernel can read it without a copy."""
    return is_dense(image, last=False) or is_dense(image, last=True)


@overridable
def in_order_of(like: Tensor, image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image, dense in the memory format of ``like``; it is copied only if necessary."""
    return image.movedim(1, -1).contiguous().movedim(-1, 1) if is_channels_last(like) else image.contiguous()


@overridable
def channels_last(image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image of two or three spatial axes with the channels innermost in memory.

    Under transforms of ``torch.func`` such as ``vmap``, which do not support memory formats, and in exports to ONNX,
    which has none, the image is returned unchanged.
    """
    return image if _has_no_order() else image.contiguous(memory_format=CHANNELS_LAST[image.ndim])


def with_innermost_strides(image: Tensor) -> Tensor:
    """Return an image of one channel with the strides of channels-last format; other images are returned unchanged.

    In memory both formats are then the same. PyTorch's convolutions return the format that the strides have.
    """
    if torch.compiler.is_compiling() or image.ndim not in CHANNELS_LAST or image.shape[1] != 1 or image.stride(1) == 1:
        return image
    if image.requires_grad or _has_no_order() or not is_dense(image, last=True):
        return image
    strides = torch.empty(image.shape, device="meta", memory_format=CHANNELS_LAST[image.ndim]).stride()
    return image.as_strided(image.shape, strides)


@overridable
def innermost_on_cpu(image: Tensor) -> Tensor:
    """Return :func:`channels_last` on a CPU, where it makes convolutions faster; elsewhere the image unchanged."""
    return channels_last(image) if image.device.type == "cpu" else image


@constant_to_compilers
def _has_no_order() -> bool:
    return transforms_are_active() or is_exporting_onnx()
