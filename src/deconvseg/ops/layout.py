"""The order of images in memory: what the operators return has the channels last where their first image has."""

import torch
from torch import Tensor

from deconvseg.ops.overriding import overridable
from deconvseg.ops.torch_internals import constant_to_compilers, transforms_are_active

# PyTorch's name of the order with the channels innermost, by the number of an image's axes.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_channels_last(image: Tensor) -> bool:
    """Return whether the channels of a (B, C, \\*S) image, not its last axis, are innermost in memory: its order.

    There may be gaps between positions. What kernels read without a copy is said by :func:`is_dense`.
    """
    return image.shape[1] > 1 and image.stride(1) == 1 and image.shape[2:].numel() > 1


def is_dense(image: Tensor, *, last: bool) -> bool:
    """Return whether an image has no gaps, with the channels ``last``, innermost in memory, or in PyTorch's own order.

    Where sizes of 1 make the two the same, it has both.
    """
    form = CHANNELS_LAST.get(image.ndim) if last else torch.contiguous_format
    return form is not None and image.is_contiguous(memory_format=form)


def is_readable(image: Tensor) -> bool:
    """Return whether an image is dense in either order, so that a kernel need not copy it."""
    return is_dense(image, last=False) or is_dense(image, last=True)


@overridable
def in_order_of(like: Tensor, image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image densely in the memory order of another one, copied only where it is not."""
    return image.movedim(1, -1).contiguous().movedim(-1, 1) if is_channels_last(like) else image.contiguous()


@overridable
def channels_last(image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image of two or three spatial axes with the channels innermost in memory.

    The image is returned as it is under transforms of ``torch.func``, as ``vmap``, which cannot ask for an order, and
    in exports to ONNX, which has none.
    """
    return image if _has_no_order() else image.contiguous(memory_format=CHANNELS_LAST[image.ndim])


@overridable
def innermost_on_cpu(image: Tensor) -> Tensor:
    """Return :func:`channels_last` on a CPU, where convolutions are faster so, and the image as it is elsewhere."""
    return channels_last(image) if image.device.type == "cpu" else image


@constant_to_compilers
def _has_no_order() -> bool:
    return transforms_are_active() or torch.onnx.is_in_onnx_export()
