"""The U-Net in which the DTC paper compares upsamplings (arXiv 2601.17939, Tables 1 and 4 to 7)."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from deconvseg.models.network import Network
from deconvseg.models.per_stage import PerStage, check_sizes, kernels_per_stage, strides_per_stage
from deconvseg.models.registry import register_model
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.joining import decode, join
from deconvseg.nn.norm import create_norm
from deconvseg.nn.upsampling import MOVED_OF_DTC, MOVED_OF_LINEAR, Upsampling, accept_moved, choose_upsampling

_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
# Default options of the upsampling in this network.
_DEFAULTS = {"align_corners": True}


class DoubleConv(nn.Sequential):
    """Two convolutions without bias, each with a normalisation and a ReLU: (B, I, \\*S) to (B, O, \\*S)."""

    def __init__(self, channels: Sequence[int], kernel_size: tuple[int, ...], norm: str) -> None:
        axes = len(kernel_size)
        padding = [size // 2 for size in kernel_size]
        layers: list[nn.Module] = []
        for read, written in itertools.pairwise(channels):
            conv = CONV[axes](read, written, kernel_size=kernel_size, padding=padding, bias=False)
            layers += [conv, create_norm(norm, written, axes), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class DecoderStage(nn.Module):
    """Upsampling, concatenation with the encoder's features, two convolutions."""

    def __init__(self, upsampling: nn.Module, convs: DoubleConv) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.convs = convs

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, channels below, \\*(S / stride)) and the encoder's (B, width, \\*S) to (B, channels, \\*S)."""
        return join(skip, x, self.upsampling, self.convs)


def decoder_channels(widths: Sequence[int], narrowing: str) -> list[int]:
    """Return the channels of each stage's output in the decoder, from the full resolution to the bottom."""
    if narrowing == "upsampling":
        return [*widths]
    return [*(widths[max(stage - 1, 0)] for stage in range(len(widths) - 1)), widths[-1]]


@register_model("unet")
class UNet(Network):
    """Plain U-Net with any upsampling, for 2D and 3D images (DTC, arXiv 2601.17939, Tables 1 and 4 to 7).

    It has two 3x3 convolutions per stage, batch normalisation and max pooling. With three input channels, one output
    and ``upsampling="linear"`` in 2D it has the paper's 17,262,977 parameters.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of each encoder stage, from the full resolution to the bottom; ``None`` means
            64-128-256-512-512 if the convolutions reduce the channels, and 64-128-256-512-1024 if the upsampling does.
        strides: pooling before each stage: one number, one per stage (the first must be 1), one per axis, or per
            stage a sequence with one number per axis; ``None`` means 2 after the first stage.
        kernel_size: odd size of the convolutions: one number, one per axis, one per stage, or per stage a sequence with
            one number per axis.
        norm: name of the normalisation.
        upsampling: name, or mapping with options (:func:`~deconvseg.nn.create_upsampling`). The default of
            ``align_corners`` for ``linear`` is true here, as in the U-Net whose sizes match the paper's.
        narrowing: layers that reduce the channels in the decoder: ``"upsampling"``, or ``"convolutions"`` after an
            upsampling that keeps them; ``None`` means ``"convolutions"`` for ``linear``, ``dysample``, ``fade``,
            ``carafe``, ``sapa`` and sums on them, otherwise ``"upsampling"``.
        deep_supervision_heads: number of extra heads at successively lower resolutions; used while ``deep_supervision``
            is on.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple``; output (B, out_channels, \\*S)
    or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such logits, from the highest
    resolution down, one per stage.

    Example:
        >>> import torch
        >>> from deconvseg.models import UNet
        >>> UNet(1, 2, spatial_dims=2, widths=(4, 8), upsampling="dysample")(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])

    """

    @accept_moved({**MOVED_OF_DTC, **MOVED_OF_LINEAR})
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        widths: Sequence[int] | None = None,
        strides: PerStage | None = None,
        kernel_size: PerStage = 3,
        norm: str = "batch",
        upsampling: Upsampling = "linear",
        narrowing: Literal["upsampling", "convolutions"] | None = None,
        deep_supervision_heads: int = 0,
    ) -> None:
        if narrowing is None:
            narrowing = "convolutions" if choose_upsampling(upsampling).base.keeps_channels else "upsampling"
        if widths is None:
            widths = (64, 128, 256, 512, 512 if narrowing == "convolutions" else 1024)
        # A copy, because a debugger may modify the live dictionary during iteration.
        config = dict(locals())
        check_sizes(in_channels, out_channels, spatial_dims, widths, deep_supervision_heads)
        steps = strides_per_stage(2 if strides is None else strides, spatial_dims, len(widths))
        kernels = kernels_per_stage(kernel_size, spatial_dims, len(widths))
        super().__init__(
            config,
            size_multiple=[math.prod(axis) for axis in zip(*steps, strict=True)],
        )
        self.pooling = nn.ModuleList(_MAX_POOL[spatial_dims](step) for step in steps[1:])
        read = (in_channels, *widths[:-1])
        self.encoder = nn.ModuleList(
            DoubleConv((before, width, width), kernel, norm)
            for before, width, kernel in zip(read, widths, kernels, strict=True)
        )
        channels = decoder_channels(widths, narrowing)
        ups = choose_upsampling(upsampling, _DEFAULTS).per_stage(len(widths) - 1)
        self.decoder = nn.ModuleList()
        for stage, chosen in zip(range(len(widths) - 2, -1, -1), ups, strict=True):
            width, below = widths[stage], channels[stage + 1]
            raised = below if narrowing == "convolutions" else width
            sizes = below, raised, steps[stage + 1], spatial_dims
            up = chosen.create(*sizes, skip_channels=width)
            convs = DoubleConv((width + raised, (width + raised) // 2, channels[stage]), kernels[stage], norm)
            self.decoder.append(DecoderStage(up, convs))
        self.head = CONV[spatial_dims](channels[0], out_channels, kernel_size=1)
        self.extra_heads = self.create_extra_heads(channels[1:])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S), or a list while ``deep_supervision`` is on."""
        self.check_input(x)
        features = [self.encoder[0](x)]
        for pool, convs in zip(self.pooling, self.encoder[1:], strict=True):
            features.append(convs(pool(features[-1])))
        return self.apply_heads(self.head, decode(self.decoder, features))
