"""The memory order of what the operators return: channels last where their first image is, else channels first."""

from torch import Tensor

from deconvseg.ops.triton_support import is_channels_last


def in_order_of(like: Tensor, image: Tensor) -> Tensor:
    """Return a (B, C, \\*S) image densely in the memory order of another one, copied only where it is not."""
    return image.movedim(1, -1).contiguous().movedim(-1, 1) if is_channels_last(like) else image.contiguous()
