"""The order of images in memory: what the operators return has the channels last where their first image has."""

import torch
from torch import Tensor

from deconvseg.ops.triton_support import is_channels_last

# PyTorch's name of the order with the channels innermost, by the number of an image's axes.
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def in_order_of(like: Tensor, image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image densely in the memory order of another one, copied only where it is not."""
    return image.movedim(1, -1).contiguous().movedim(-1, 1) if is_channels_last(like) else image.contiguous()


def channels_last(image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image of two or three spatial axes with the channels innermost in memory."""
    return image.contiguous(memory_format=CHANNELS_LAST[image.ndim])
