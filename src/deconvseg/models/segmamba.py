"""SegMamba (arXiv 2401.13560): an encoder that scans volumes in three orders, and a convolutional decoder."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import Network, log_sigmoid
from deconvseg.models.per_stage import check_sizes, depths_per_stage
from deconvseg.models.registry import register_model
from deconvseg.nn import Mamba
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.joining import decode
from deconvseg.nn.mamba import SCAN_DIRECTIONS
from deconvseg.nn.norm import create_norm
from deconvseg.nn.residual import ConvUnit, ResidualBlock
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved, choose_upsampling, upsample
from deconvseg.ops.layout import innermost_on_cpu

_NORM = "instance"
# Negative slope of the leaky ReLUs in the convolutional blocks, as in UNETR.
_SLOPE = 0.01


class GatedSpatialConv(nn.Module):
    """Gated spatial convolution (GSC): 3x3 convolutions gated by a pointwise convolution.

    Shapes: input and output (B, channels, \\*S).
    """

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()

        def unit(kernel_size: int) -> ConvUnit:
            return ConvUnit(channels, channels, kernel_size, spatial_dims, norm=_NORM)

        self.local = nn.Sequential(unit(3), unit(3))
        self.gate = unit(1)
        self.fusion = unit(1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, channels, \\*S) locally."""
        out: Tensor = x + self.fusion(self.local(x) * self.gate(x))
        return out


class TriOrientedMamba(nn.Module):
    """Residual tri-oriented Mamba (ToM): layer normalisation, then scans forward, backward and across slices.

    Shapes: input and output (B, channels, \\*S), the number of positions a multiple of ``slices``.
    """

    def __init__(self, channels: int, slices: int, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mamba = Mamba(channels, SCAN_DIRECTIONS, slices, states=states)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, channels, \\*S) over its positions."""
        normed: Tensor = self.norm(x.flatten(2).mT)
        mixed: Tensor = self.mamba(normed.mT)
        return x + mixed.reshape(x.shape)


class EncoderStage(nn.Module):
    """Downsampling, gated spatial convolution, tri-oriented Mamba layers, and an MLP with a residual."""

    def __init__(
        self, downsampling: nn.Module, channels: int, depth: int, slices: int, spatial_dims: int, states: int
    ) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.downsampling = downsampling
        self.spatial = GatedSpatialConv(channels, spatial_dims)
        self.mambas = nn.Sequential(*(TriOrientedMamba(channels, slices, states) for _ in range(depth)))
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            conv(channels, 2 * channels, kernel_size=1), nn.GELU(), conv(2 * channels, channels, kernel_size=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels above, \\*S) to (B, channels, \\*(S / 2))."""
        x = self.mambas(self.spatial(self.downsampling(x)))
        normed: Tensor = self.norm(x.movedim(1, -1))
        out: Tensor = x + self.mlp(normed.movedim(-1, 1))
        return out


class DecoderStage(nn.Module):
    """Upsampling, concatenation with a skip connection, a residual block."""

    def __init__(self, upsampling: nn.Module, width: int, spatial_dims: int) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.block = ResidualBlock(2 * width, width, spatial_dims, norm=_NORM, slope=_SLOPE)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, channels below, \\*(S / 2)) and a skip connection (B, width, \\*S) to (B, width, \\*S)."""
        out: Tensor = self.block(torch.cat([upsample(self.upsampling, x, skip), skip], dim=1))
        return out


@register_model("segmamba")
class SegMamba(Network):
    """SegMamba (arXiv 2401.13560), implemented in this package for 3D images and, beyond the paper, for 2D images.

    It has a stem at half the resolution, one stage for each of ``widths`` at strides 2, 4, ..., and skip connections
    through residual blocks. With one input channel and 14 classes in 3D it has 67.36 million parameters.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of each stage, from half the resolution down.
        depths: Mamba layers per stage; ``None`` means one per stage.
        hidden: channels at the lowest resolution of the decoder.
        slices: number of slices of each stage's sequence for the scan across slices; the default values fit a patch of
            128x128x128, as published.
        states: states per inner channel of Mamba.
        uncertainty: whether skip connections are weighted by feature-level uncertainty (FUE; no parameters).
        upsampling: ``"transposed"`` (as in the paper) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).
        deep_supervision_heads: number of extra heads at successively lower resolutions; used while ``deep_supervision``
            is on.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple``, the smallest for which
    ``slices`` divide the positions of every stage (32 in 3D and 64 in 2D by default); output (B, out_channels, \\*S)
    or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such logits, highest resolution
    first.

    Example:
        >>> import torch
        >>> from deconvseg.models import SegMamba
        >>> network = SegMamba(1, 2, spatial_dims=2, widths=(8, 16), depths=None, hidden=16, slices=(4, 2))
        >>> network(torch.rand(1, 1, 16, 16)).shape
        torch.Size([1, 2, 16, 16])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        widths: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] | None = (2, 2, 2, 2),
        hidden: int = 768,
        slices: Sequence[int] = (64, 32, 16, 8),
        states: int = 16,
        uncertainty: bool = True,
        upsampling: Upsampling = "transposed",
        deep_supervision_heads: int = 0,
    ) -> None:
        config = dict(locals())
        check_sizes(in_channels, out_channels, spatial_dims, widths and [*widths, hidden], deep_supervision_heads)
        depths = depths_per_stage(depths, len(widths), "depths")
        slices = depths_per_stage(slices, len(widths), "slices")
        super().__init__(
            config,
            size_multiple=(_size_multiple(slices, spatial_dims),) * spatial_dims,
        )
        self.uncertainty = uncertainty
        conv = CONV[spatial_dims]
        self.encoder = nn.ModuleList()
        for stage, (width, depth, parts) in enumerate(zip(widths, depths, slices, strict=True)):
            down: nn.Module = conv(in_channels, width, kernel_size=7, stride=2, padding=3)
            if stage:
                halve = conv(widths[stage - 1], width, kernel_size=2, stride=2)
                down = nn.Sequential(create_norm(_NORM, widths[stage - 1], spatial_dims), halve)
            self.encoder.append(EncoderStage(down, width, depth, parts, spatial_dims, states))

        def block(channels: int, width: int) -> ResidualBlock:
            return ResidualBlock(channels, width, spatial_dims, norm=_NORM, slope=_SLOPE)

        levels = (*widths, hidden)
        self.skips = nn.ModuleList(itertools.starmap(block, itertools.pairwise((in_channels, *levels))))
        self.decoder = nn.ModuleList()
        ups = choose_upsampling(upsampling).per_stage(len(levels) - 1)
        for below, width, chosen in zip(levels[:0:-1], levels[-2::-1], ups, strict=True):
            up = chosen.create(below, width, 2, spatial_dims, skip_channels=width)
            self.decoder.append(DecoderStage(up, width, spatial_dims))
        self.last = block(widths[0], widths[0])
        self.head = conv(widths[0], out_channels, kernel_size=1)
        self.extra_heads = self.create_extra_heads(levels[1:])

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield the widths of the network."""
        # The paper's proportions; 48 is the paper's width.
        for base in grid.widths((12, 24, 48)):
            yield f"width {base}", {"widths": [base, 2 * base, 4 * base, 8 * base], "hidden": 16 * base}

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S), or a list while ``deep_supervision`` is on."""
        self.check_input(x)
        # Convolutions are faster on a CPU in channels-last format.
        x = innermost_on_cpu(x)
        features = [self.skips[0](x)]
        for stage, skip in zip(self.encoder, self.skips[1:], strict=True):
            x = stage(x)
            features.append(skip(weigh_by_certainty(x) if self.uncertainty else x))
        highest, *lower = decode(self.decoder, features)
        return self.apply_heads(self.head, [self.last(highest), *lower])


def weigh_by_certainty(x: Tensor) -> Tensor:
    """Amplify certain features: x + x (1 - u), u = -p log p, p = sigmoid(mean over the channels).

    This is the feature-level uncertainty estimation (FUE). Shapes: input and output (B, C, \\*S).
    """
    mean = x.mean(dim=1, keepdim=True)
    uncertainty = -torch.sigmoid(mean) * log_sigmoid(mean)
    return x * (2 - uncertainty)


def _size_multiple(slices: Sequence[int], spatial_dims: int) -> int:
    """Return the smallest multiple of all strides for which slices divide the positions of every stage."""
    lengths = [2**power for power in range(len(slices) - 1, -1, -1)]  # length of each stage at the smallest size
    factor = 1
    while any((factor * length) ** spatial_dims % parts for length, parts in zip(lengths, slices, strict=True)):
        factor += 1
    return factor << len(slices)
