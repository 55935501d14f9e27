"""Convolution units with normalisation and activation, and residual blocks of them."""

from torch import Tensor, nn

from deconvseg.nn.dimensions import CONV
from deconvseg.nn.norm import create_norm


class ConvUnit(nn.Sequential):
    """A convolution without bias, a named normalisation, and a leaky ReLU with negative slope ``slope``.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*S / stride), rounded up. ``kernel_size`` is odd.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        spatial_dims: int,
        *,
        norm: str,
        stride: int = 1,
        slope: float = 0.0,
    ) -> None:
        conv = CONV[spatial_dims](
            in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )
        activation = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)
        super().__init__(conv, create_norm(norm, out_channels, spatial_dims), activation)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, as in ResNet; a normalised 1x1 convolution if the shape changes.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*S / stride), rounded up.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int,
        *,
        norm: str,
        stride: int = 1,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.convs = nn.Sequential(
            ConvUnit(in_channels, out_channels, 3, spatial_dims, norm=norm, stride=stride, slope=slope),
            conv(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            create_norm(norm, out_channels, spatial_dims),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Sequential(
                conv(in_channels, out_channels, kernel_size=1, bias=False),
                create_norm(norm, out_channels, spatial_dims),
            )
        # A 1x1 convolution with a stride reads every stride-th voxel. These are taken first, because PyTorch 2.13
        # writes beyond its memory in the gradient of such a convolution of few channels without AVX-512.
        self._strided = (slice(None),) * 2 + (slice(None, None, stride),) * spatial_dims
        self.activation = nn.LeakyReLU(slope) if slope else nn.ReLU()

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Map (B, in_channels, \\*S); ``added``, of the output's shape, is a third summand before the activation."""
        total = self.convs(x) + self.shortcut(x[self._strided])
        out: Tensor = self.activation(total if added is None else total + added)
        return out
