"""DySample: learning to upsample by learning to sample (Liu et al., ICCV 2023), in 2D and 3D."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.kinds.pixelshuffle import pixel_shuffle
from deconvseg.nn.upsampling.registry import register_upsampling
from deconvseg.nn.upsampling.sampling import SamplingLayer
from deconvseg.nn.upsampling.skips import change_channels
from deconvseg.ops import deformable_upsample
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.torch_internals import ConvNd


@register_upsampling("dysample", keeps_channels=True, adaptive=True)
class DySample(SamplingLayer):
    """Sample the input at positions predicted by a 1x1 convolution, separately for each group of channels.

    This is the paper's "LP" variant (linear, then pixel shuffle) with a static scope, initialised as linear
    interpolation (``align_corners=False``). A 1x1 convolution before it changes the channels if they differ.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of ``groups``.
        scale: upsampling factor, one number or one per axis.
        spatial_dims: 2 or 3.
        groups: number of groups of channels; each has its own positions.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*(S * scale)).

    Example:
        >>> import torch
        >>> from deconvseg.nn import DySample
        >>> DySample(8, 4, scale=2, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 4, 16, 16])

    """

    # A quarter of a pixel per predicted unit: the paper's static scope, with little overlap between neighbours.
    receptive_field = 1.0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int] = 2,
        spatial_dims: int = 3,
        *,
        groups: Annotated[int, Field(ge=1)] = 4,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (2, 3))
        self.in_channels = in_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        if groups < 1 or out_channels % groups:
            raise InputError(
                f"DySample: {out_channels} output channels do not divide into groups={groups}: give a multiple of "
                f"{max(groups, 1)} channels, or other groups"
            )
        self.groups = groups
        conv = CONV[spatial_dims]
        self.project = change_channels(in_channels, out_channels, spatial_dims)
        predicted = groups * spatial_dims * math.prod(self.scale)
        self.coordinates = conv(in_channels, predicted, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters; the initial positions are almost those of linear interpolation."""
        if isinstance(self.project, ConvNd):
            self.project.reset_parameters()
        nn.init.normal_(self.coordinates.weight, std=0.001)
        if self.coordinates.bias is not None:
            nn.init.zeros_(self.coordinates.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale))."""
        check_image(x, self.in_channels, len(self.scale), "DySample")
        features, offsets = self.project(x), self.predict(x)
        out = deformable_upsample(
            self._by_group(features), offsets, None, scale=self.scale, receptive_field=self.receptive_field
        )
        return in_order_of(x, torch.unflatten(out, 0, (-1, self.groups)).flatten(1, 2))

    def predict(self, x: Tensor) -> Tensor:
        """Return the offsets of each group, (B * groups, axes, \\*(S * scale)), the last array axis first."""
        return self._by_group(pixel_shuffle(self.coordinates(x), self.scale))

    def _by_group(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 1, (self.groups, -1)).flatten(0, 1)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"scale={self.scale}, groups={self.groups}"
