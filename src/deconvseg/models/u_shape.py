"""The common U shape of Deconver and Factorizer, which differ only in their blocks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from deconvseg.models.network import Network
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.joining import decode, join
from deconvseg.nn.upsampling import Upsampling, choose_upsampling
from deconvseg.ops.layout import innermost_on_cpu


class EncoderStage(nn.Module):
    """Downsampling (a convolution with kernel = stride; none in the first stage), then blocks."""

    def __init__(self, downsampling: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__()
        self.downsampling = downsampling
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width before, \\*S) to (B, width, \\*(S / stride))."""
        out: Tensor = self.blocks(self.downsampling(x))
        return out


class DecoderStage(nn.Module):
    """Upsampling, concatenation with the encoder's features, a pointwise convolution, then blocks."""

    def __init__(self, upsampling: nn.Module, fusion: nn.Module, blocks: nn.Sequential) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.fusion = fusion
        self.blocks = blocks

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map (B, width below, \\*(S / stride)) and the encoder's (B, width, \\*S) to (B, width, \\*S)."""
        out: Tensor = self.blocks(join(skip, x, self.upsampling, self.fusion))
        return out


class UShapedNetwork(Network):
    """A U-shaped network of blocks that keep width and size: a stem, encoder stages, decoder stages and heads.

    ``blocks(stage, depth)`` returns the blocks of a stage; ``steps`` are the strides per stage and axis;
    ``decoder_depths`` start at the lowest resolution. Every spatial size must be a multiple of the product of all
    strides and ``window``.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        widths: Sequence[int],
        steps: Sequence[tuple[int, ...]],
        depths: Sequence[int],
        decoder_depths: Sequence[int],
        blocks: Callable[[int, int], nn.Sequential],
        upsampling: Upsampling,
        window: Sequence[int] | None = None,
    ) -> None:
        spatial_dims = len(steps[0])
        reach = (1,) * spatial_dims if window is None else window
        super().__init__(
            config,
            size_multiple=[math.prod(axis) for axis in zip(*steps, reach, strict=True)],
        )
        conv = CONV[spatial_dims]
        self.stem = conv(self.in_channels, widths[0], kernel_size=3, padding=1, bias=False)
        self.encoder = nn.ModuleList([EncoderStage(nn.Identity(), blocks(0, depths[0]))])
        for stage in range(1, len(widths)):
            down = conv(widths[stage - 1], widths[stage], kernel_size=steps[stage], stride=steps[stage])
            self.encoder.append(EncoderStage(down, blocks(stage, depths[stage])))
        self.decoder = nn.ModuleList()
        ups = choose_upsampling(upsampling).per_stage(len(widths) - 1)
        for stage, depth, chosen in zip(range(len(widths) - 2, -1, -1), decoder_depths, ups, strict=True):
            width = widths[stage]
            sizes = widths[stage + 1], width, steps[stage + 1], spatial_dims
            up = chosen.create(*sizes, skip_channels=width)
            fusion = conv(2 * width, width, kernel_size=1, bias=False)
            self.decoder.append(DecoderStage(up, fusion, blocks(stage, depth)))
        self.head = conv(widths[0], self.out_channels, kernel_size=1)
        self.extra_heads = self.create_extra_heads(widths[1:])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S), or a list while ``deep_supervision`` is on."""
        self.check_input(x)
        # Grouped and pointwise convolutions are several times faster on a CPU in channels-last format.
        x = self.stem(innermost_on_cpu(x))
        features = []
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        return self.apply_heads(self.head, decode(self.decoder, features))
