"""Shared code of the kinds that average neighbours of the input, and of those that take the skip connection."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV
from deconvseg.ops.overriding import is_symbolic
from deconvseg.ops.shapes import finer_size

# 5 is that of the papers; in 3D it would have 125 neighbours for each voxel.
_NEIGHBOURHOOD = {2: 5, 3: 3}


def neighbourhood(kernel_size: int | None, spatial_dims: int) -> int:
    """Return the size of a neighbourhood, by default 5 in 2D and 3 in 3D."""
    return _NEIGHBOURHOOD[spatial_dims] if kernel_size is None else kernel_size


def change_channels(in_channels: int, out_channels: int, spatial_dims: int) -> nn.Module:
    """Return a 1x1 convolution, or the identity if the channels are the same."""
    if in_channels == out_channels:
        return nn.Identity()
    return CONV[spatial_dims](in_channels, out_channels, kernel_size=1)


def check_skip(x: Tensor, skip: Tensor | None, channels: int, scale: Sequence[int], name: str) -> Tensor:
    """Return the skip connection (B, channels, \\*(S * scale)) of ``x``; :class:`InputError` if it does not fit."""
    if skip is not None and is_symbolic(x):
        return skip
    expected = (x.shape[0], channels, *finer_size(x.shape[2:], scale))
    if skip is None or tuple(skip.shape) != expected:
        found = "none" if skip is None else f"one of shape {tuple(skip.shape)}"
        raise InputError(f"{name} needs the skip connection of shape {expected} and got {found}")
    return skip


def spread(x: Tensor, scale: Sequence[int]) -> Tensor:
    """Repeat every position of (B, C, \\*S) to (B, C, \\*(S * scale))."""
    return F.interpolate(x, scale_factor=tuple(map(float, scale)), mode="nearest")
