"""Sub-pixel convolution (Shi et al., arXiv 1609.05158) in any number of dimensions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deconvseg.nn.dimensions import CONV, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.registry import register_upsampling
from deconvseg.ops.layout import is_channels_last
from deconvseg.ops.overriding import overridable
from deconvseg.ops.shapes import finer_size


@register_upsampling("pixelshuffle", spatial_dims=(1, 2, 3))
class PixelShuffleUpsampling(nn.Module):
    """Sub-pixel convolution: a 3x3 convolution predicts finer pixels as channels, which are then rearranged.

    All finer pixels of a channel start with the same filter (ICNR, Aitken et al., arXiv 1707.02937), so that an
    untrained layer has no checkerboard artefacts.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*(S * scale)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, scale: int | Sequence[int] = 2, spatial_dims: int = 3
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (1, 2, 3))
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.predict = CONV[spatial_dims](in_channels, out_channels * math.prod(self.scale), kernel_size=3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw one filter and bias for each output channel."""
        self.predict.reset_parameters()
        finer = math.prod(self.scale)
        with torch.no_grad():
            for parameter in self.predict.parameters():
                parameter.copy_(parameter[::finer].repeat_interleave(finer, dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale))."""
        check_image(x, self.in_channels, len(self.scale), "PixelShuffleUpsampling")
        return pixel_shuffle(self.predict(x), self.scale)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"scale={self.scale}"


@overridable
def pixel_shuffle(x: Tensor, scale: Sequence[int]) -> Tensor:
    """Rearrange channels as finer pixels: (B, C * prod(scale), \\*S) to (B, C, \\*(S * scale)).

    It generalises ``torch.nn.functional.pixel_shuffle`` to any number of axes, each with its own scale.
    """
    axes, size = len(scale), x.shape[2:]
    channels = x.shape[1] // math.prod(scale)
    finer = x.reshape(x.shape[0], channels, *scale, *size)
    order = [position for axis in range(axes) for position in (2 + axes + axis, 2 + axis)]
    if is_channels_last(x):
        shuffled = finer.permute(0, *order, 1).reshape(x.shape[0], *finer_size(size, scale), channels)
        return shuffled.movedim(-1, 1)
    return finer.permute(0, 1, *order).reshape(x.shape[0], channels, *finer_size(size, scale))
