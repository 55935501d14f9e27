"""Transposed convolution as an upsampling layer."""

from collections.abc import Sequence

from torch import nn

from deconvseg.nn.dimensions import CONV_TRANSPOSE, per_axis
from deconvseg.nn.upsampling.registry import register_upsampling


@register_upsampling("transposed", spatial_dims=(1, 2, 3))
def transposed_convolution(
    in_channels: int, out_channels: int, scale: int | Sequence[int] = 2, spatial_dims: int = 3
) -> nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d:
    """Transposed convolution with kernel = stride = scale."""
    factors = per_axis(scale, spatial_dims, "scale")
    return CONV_TRANSPOSE[spatial_dims](in_channels, out_channels, kernel_size=factors, stride=factors)
