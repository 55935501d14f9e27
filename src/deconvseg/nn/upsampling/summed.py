"""Sums of upsampling layers, and how a layer is called that may need the skip connection."""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.ops.layout import in_order_of
from deconvseg.ops.overriding import is_symbolic, overridable
from deconvseg.ops.shapes import finer_size

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class SummedUpsampling(nn.Module):
    """A usual upsampling plus another: with DTC the whole of its Fig. 3 (arXiv 2601.17939).

    ``needs_skip`` says whether one of both takes the skip connection.
    """

    def __init__(self, base: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.added = added
        self.needs_skip = needs_skip(base) or needs_skip(added)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Upsample (B, in_channels, \\*S) both ways and add; ``skip`` (B, skip channels, \\*(S * scale)) if needed."""
        return add_beside(self.added, x, upsample(self.base, x, skip), skip)


def needs_skip(layer: nn.Module) -> bool:
    """Return whether a layer is called with the skip connection too."""
    return bool(getattr(layer, "needs_skip", False))


def upsample(layer: nn.Module, x: Tensor, skip: Tensor | None) -> Tensor:
    """Call an upsampling layer, with the skip connection where it needs one."""
    out: Tensor = layer(x, skip) if needs_skip(layer) else layer(x)
    return out


def takes_base(layer: nn.Module) -> bool:
    """Return whether a layer is called as ``layer(x, base)`` too, and adds that tensor itself."""
    return bool(getattr(layer, "takes_base", False))


def starts_at_zero(layer: nn.Module) -> bool:
    """Return whether a new layer's output is zero everywhere, so that beside another it changes nothing at first."""
    return bool(getattr(layer, "starts_at_zero", False))


def add_beside(layer: nn.Module, x: Tensor, base: Tensor, skip: Tensor | None = None) -> Tensor:
    """Upsample (B, in_channels, \\*S) by a layer, and add it to another upsampling's result, in whose order of memory.

    Where that is not S times the layer's scale, as where a network resizes to the size of a skip connection, the
    layer's result is resampled to it.
    """
    scale = cast(Sequence[int], getattr(layer, "scale", ()))
    if takes_base(layer) and (is_symbolic(x) or finer_size(x.shape[2:], scale) == tuple(base.shape[2:])):
        # What follows rounds by the order in memory, and shall do so as without the layer.
        return in_order_of(base, layer(x, base))
    return base + resample(upsample(layer, x, skip), base.shape[2:])


@overridable
def resample(image: Tensor, size: int | Sequence[int]) -> Tensor:
    """Interpolate (B, C, \\*S) linearly to a size, one number or one per axis; of that size it is returned as it is."""
    axes = image.ndim - 2
    sizes = (size,) * axes if isinstance(size, int) else tuple(size)
    if tuple(image.shape[2:]) == sizes:
        return image
    return F.interpolate(image, size=sizes, mode=_LINEAR[axes], align_corners=False)
