"""The Deconv Mixer and the Deconver block (Deconver, arXiv 2504.00302, sections III-D and III-E)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.ndc import NDC
from deconvseg.nn.norm import create_norm


class DeconvMixer(nn.Module):
    """Pointwise convolution, ReLU, nonnegative deconvolution, pointwise convolution (Eq. 6).

    Arguments as for :class:`~deconvseg.nn.NDC`. Shapes: input and output (B, C, \\*S).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        ratio: float = 4,
        groups: int | None = None,
        iterations: int = 1,
        eps: float = 1e-8,
        *,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        self.ndc = NDC(channels, kernel_size, ratio, groups, iterations, eps, spatial_dims=spatial_dims)
        conv = CONV[self.ndc.filters.ndim - 2]
        self.project_in = conv(channels, channels, kernel_size=1, bias=False)
        self.project_out = conv(self.ndc.source_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, C, \\*S) over its positions."""
        out: Tensor = self.project_out(self.ndc(torch.relu(self.project_in(x))))
        return out


class DeconverBlock(nn.Module):
    """A transformer-like block with a Deconv Mixer in place of attention (Eq. 4 and 5).

    ``mlp_ratio`` is the expansion factor α of the MLP and ``norm`` the name of the normalisation before each half;
    the other arguments are those of :class:`~deconvseg.nn.NDC`. Shapes: input and output (B, C, \\*S).
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        ratio: float = 4,
        groups: int | None = None,
        iterations: int = 1,
        eps: float = 1e-8,
        *,
        mlp_ratio: float = 4,
        norm: str = "instance",
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = create_norm(norm, channels)
        self.mixer = DeconvMixer(channels, kernel_size, ratio, groups, iterations, eps, spatial_dims=spatial_dims)
        self.norm2 = create_norm(norm, channels)
        hidden = int(channels * mlp_ratio)
        if hidden < 1:
            raise InputError(f"mlp_ratio={mlp_ratio}: give a number that makes at least one hidden channel")
        conv = CONV[self.mixer.ndc.filters.ndim - 2]
        self.mlp = nn.Sequential(
            conv(channels, hidden, kernel_size=1), nn.GELU(), conv(hidden, channels, kernel_size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply both halves, each with its residual connection, to (B, C, \\*S)."""
        x = x + self.mixer(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out
