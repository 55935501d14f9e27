"""Sums of upsampling layers, and calls of layers that may need the skip connection."""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.nn.fusion import Fusible
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.overriding import is_symbolic, overridable
from deconvseg.ops.shapes import finer_size

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class SummedUpsampling(Fusible, nn.Module):
    """The sum of a base upsampling and an added one; with DTC, the complete module of its Fig. 3 (arXiv 2601.17939).

    ``needs_skip`` says whether one of them takes the skip connection.
    """

    def __init__(self, base: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.added = added
        self.needs_skip = needs_skip(base) or needs_skip(added)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return the sum of both upsamplings of (B, in_channels, \\*S); ``skip`` is (B, K, \\*(S * scale))."""
        return add_beside(self.added, x, upsample(self.base, x, skip), skip)


def needs_skip(layer: nn.Module) -> bool:
    """Return whether a layer takes the skip connection as second argument."""
    return bool(getattr(layer, "needs_skip", False))


def upsample(layer: nn.Module, x: Tensor, skip: Tensor | None) -> Tensor:
    """Call an upsampling layer, with the skip connection if the layer needs it."""
    out: Tensor = layer(x, skip) if needs_skip(layer) else layer(x)
    return out


def takes_base(layer: nn.Module) -> bool:
    """Return whether a layer can be called as ``layer(x, base)`` and adds ``base`` to its result."""
    return bool(getattr(layer, "takes_base", False))


def starts_at_zero(layer: nn.Module) -> bool:
    """Return whether a new layer's output is zero everywhere, so that adding it initially changes nothing."""
    return bool(getattr(layer, "starts_at_zero", False))


def add_beside(layer: nn.Module, x: Tensor, base: Tensor, skip: Tensor | None = None) -> Tensor:
    """Add a layer's upsampling of (B, in_channels, \\*S) to ``base``, the result of another upsampling.

    The sum has the memory format of ``base``. If the size of ``base`` is not S times the layer's scale, for example if
    a network resizes to the size of a skip connection, the layer's result is resampled.
    """
    scale = cast(Sequence[int], getattr(layer, "scale", ()))
    if takes_base(layer) and (is_symbolic(x) or finer_size(x.shape[2:], scale) == tuple(base.shape[2:])):
        # Keeps the memory format, because the rounding of later layers depends on it.
        return in_order_of(base, layer(x, base))
    return base + resample(upsample(layer, x, skip), base.shape[2:])


@overridable
def resample(image: Tensor, size: int | Sequence[int]) -> Tensor:
    """Interpolate (B, C, \\*S) linearly to a size, one number or one per axis; unchanged if it has this size."""
    axes = image.ndim - 2
    sizes = (size,) * axes if isinstance(size, int) else tuple(size)
    if tuple(image.shape[2:]) == sizes:
        return image
    return F.interpolate(image, size=sizes, mode=_LINEAR[axes], align_corners=False)
