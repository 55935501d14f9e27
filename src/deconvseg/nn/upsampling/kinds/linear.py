"""Linear interpolation as an upsampling layer."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.nn.dimensions import CONV, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.registry import register_upsampling

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@register_upsampling("linear", spatial_dims=(1, 2, 3), keeps_channels=True)
class LinearUpsampling(nn.Module):
    """Linear interpolation, with a 1x1 convolution if the channels change.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        scale: upsampling factor, one number or one per axis.
        spatial_dims: 1, 2 or 3.
        align_corners: the argument of ``torch.nn.functional.interpolate``.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*(S * scale)).

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int] = 2,
        spatial_dims: int = 3,
        *,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (1, 2, 3))
        self.in_channels = in_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.mode = _MODES[spatial_dims]
        self.align_corners = align_corners
        changes = in_channels != out_channels
        self.project = CONV[spatial_dims](in_channels, out_channels, kernel_size=1) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale))."""
        check_image(x, self.in_channels, len(self.scale), "LinearUpsampling")
        # The 1x1 convolution commutes with interpolation (whose weights sum to one) and costs less before it.
        scale = tuple(map(float, self.scale))
        return F.interpolate(self.project(x), scale_factor=scale, mode=self.mode, align_corners=self.align_corners)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"scale={self.scale}, align_corners={self.align_corners}"
