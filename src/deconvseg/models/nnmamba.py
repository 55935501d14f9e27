"""nnMamba (arXiv 2402.03526): a residual encoder with Mamba parallel to its convolutions."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import Network
from deconvseg.models.per_stage import check_sizes
from deconvseg.models.registry import register_model
from deconvseg.nn import SiameseMamba
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.joining import decode
from deconvseg.nn.residual import ConvUnit, ResidualBlock
from deconvseg.nn.upsampling import (
    MOVED_OF_DTC,
    Upsampling,
    UpsamplingChoice,
    accept_moved,
    choose_upsampling,
    upsample,
)
from deconvseg.ops.layout import innermost_on_cpu

_STAGES = 4
# Reduction factor of the channels in the scaling of skip connections.
_SQUEEZE = 16


class MambaInConvolution(nn.Module):
    """The MICCSS block: Mamba over the positions of an image, between two 1x1 convolutions.

    Shapes: input and output (B, channels, \\*S).
    """

    def __init__(self, channels: int, spatial_dims: int, norm: str, states: int) -> None:
        super().__init__()
        self.project_in = ConvUnit(channels, channels, 1, spatial_dims, norm=norm)
        self.mamba = SiameseMamba(channels, states=states)
        self.project_out = ConvUnit(channels, channels, 1, spatial_dims, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, channels, \\*S) over its positions."""
        x = self.project_in(x)
        mixed: Tensor = self.mamba(x.flatten(2))
        out: Tensor = self.project_out(x + mixed.reshape(x.shape))
        return out


class EncoderLayer(nn.Module):
    """Residual blocks, the first with stride 2; the others share one MICCSS block parallel to their convolutions."""

    def __init__(self, channels: int, width: int, blocks: int, spatial_dims: int, norm: str, states: int) -> None:
        super().__init__()
        self.first = ResidualBlock(channels, width, spatial_dims, norm=norm, stride=2)
        self.others = nn.ModuleList(ResidualBlock(width, width, spatial_dims, norm=norm) for _ in range(blocks - 1))
        self.mixer = MambaInConvolution(width, spatial_dims, norm, states)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, \\*S) to (B, width, \\*S / 2)."""
        x = self.first(x)
        for block in self.others:
            x = block(x, self.mixer(x))
        return x


class ChannelScaling(nn.Module):
    """Scale the channels of a skip connection by weights predicted from their means; shapes (B, channels, \\*S)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(1, channels // _SQUEEZE)
        # SiLU, because with so few hidden units ReLUs could all be zero initially and remain so.
        self.weigh = nn.Sequential(
            nn.Linear(channels, squeezed), nn.SiLU(), nn.Linear(squeezed, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (B, channels, \\*S)."""
        means = x.mean(dim=tuple(range(2, x.ndim)))
        weights: Tensor = self.weigh(means)
        out: Tensor = x * weights.reshape(*means.shape, *[1] * (x.ndim - 2))
        return out


class DecoderStage(nn.Module):
    """Upsampling, concatenation with a scaled skip connection, two convolutions."""

    def __init__(self, upsampling: nn.Module, channels: int, width: int, spatial_dims: int, norm: str) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.scaling = ChannelScaling(width)
        self.convs = nn.Sequential(
            ConvUnit(channels + width, width, 3, spatial_dims, norm=norm),
            ConvUnit(width, width, 3, spatial_dims, norm=norm),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, channels, \\*(S / 2)) and the encoder's (B, width, \\*S) to (B, width, \\*S)."""
        joined = torch.cat([upsample(self.upsampling, x, skip), self.scaling(skip)], dim=1)
        out: Tensor = self.convs(joined)
        return out


@register_model("nnmamba")
class NNMamba(Network):
    """nnMamba (arXiv 2402.03526) for 2D and 3D images, implemented in this package.

    It has a stem at half the resolution, three residual layers with Mamba at strides 4, 8 and 16, and trilinear
    upsampling. With one input channel and 14 classes in 3D it has 15.956 million parameters.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        channels: channels of the stem; every layer doubles them.
        blocks: residual blocks per layer, at least 2.
        states: states per inner channel of Mamba.
        norm: name of the normalisation.
        upsampling: ``"linear"`` (as in the paper) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`); it keeps the number of channels.
        deep_supervision_heads: number of extra heads at successively lower resolutions, at most three; used while
            ``deep_supervision`` is on.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of 16; output (B, out_channels, \\*S) or, while
    ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such logits, highest resolution first.

    Example:
        >>> import torch
        >>> from deconvseg.models import NNMamba
        >>> NNMamba(1, 2, spatial_dims=2, channels=4)(torch.rand(1, 1, 32, 32)).shape
        torch.Size([1, 2, 32, 32])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        channels: int = 32,
        blocks: int = 3,
        states: int = 16,
        norm: str = "batch",
        upsampling: Upsampling = "linear",
        deep_supervision_heads: int = 0,
    ) -> None:
        config = dict(locals())
        if channels < 1:
            raise InputError(f"channels={channels}: give a positive number")
        widths = [channels * 2**stage for stage in range(_STAGES)]
        check_sizes(in_channels, out_channels, spatial_dims, widths, deep_supervision_heads)
        if blocks < 2:
            raise InputError(f"blocks={blocks}: give 2 or more, because Mamba is parallel to all blocks but the first")
        super().__init__(
            config,
            size_multiple=(2**_STAGES,) * spatial_dims,
        )

        *ups, last = choose_upsampling(upsampling).per_stage(_STAGES)

        def raised(chosen: UpsamplingChoice, width: int, skip_channels: int) -> nn.Module:
            return chosen.create(width, width, 2, spatial_dims, skip_channels=skip_channels)

        self.stem = nn.Sequential(
            ConvUnit(in_channels, channels, 3, spatial_dims, norm=norm, stride=2),
            ConvUnit(channels, channels, 3, spatial_dims, norm=norm),
        )
        self.encoder = nn.ModuleList(
            EncoderLayer(width // 2, width, blocks, spatial_dims, norm, states) for width in widths[1:]
        )
        self.decoder = nn.ModuleList(
            DecoderStage(raised(chosen, 2 * width, width), 2 * width, width, spatial_dims, norm)
            for chosen, width in zip(ups, widths[-2::-1], strict=True)
        )
        self.upsampling = raised(last, channels, in_channels)
        self.head = nn.Sequential(
            ConvUnit(channels, out_channels, 3, spatial_dims, norm=norm),
            CONV[spatial_dims](out_channels, out_channels, kernel_size=3, padding=1),
        )
        self.extra_heads = self.create_extra_heads(widths)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield the widths of the network."""
        for channels in grid.widths((8, 16, 32)):
            yield f"width {channels}", {"channels": channels}

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S), or a list while ``deep_supervision`` is on."""
        self.check_input(x)
        # Convolutions are faster on a CPU in channels-last format.
        image = innermost_on_cpu(x)
        features = [self.stem(image)]
        for layer in self.encoder:
            features.append(layer(features[-1]))
        features = decode(self.decoder, features)
        return self.apply_heads(self.head, [upsample(self.upsampling, features[0], image), *features])
