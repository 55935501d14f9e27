"""The layer that an ablation puts in the place of nonnegative deconvolution."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.ndc import SourceSizes

# Eq. 7 correlates three times: X with V, S with V, and their convolution with V again.
_CORRELATIONS = 3


class DepthwiseSource(nn.Module):
    """Depthwise convolutions of the initial source, which cost as much as the updates of :class:`~deconvseg.nn.NDC`.

    In the place of each of the ``iterations`` are three depthwise convolutions of ``kernel_size`` without bias, each
    followed by a ReLU: they take as many multiply-accumulates as the three correlations of an update, and the output is
    nonnegative too. Filters are initialised Kaiming-uniform with the gain of a ReLU. The arguments are those of
    :class:`~deconvseg.nn.NDC` with one group for each channel. Shapes: input (B, C, \\*S), output (B, C * ratio, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.nn import DepthwiseSource
        >>> DepthwiseSource(8, kernel_size=3, ratio=2, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 16, 8, 8])

    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        ratio: float = 4,
        *,
        iterations: int = 1,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        sizes = SourceSizes.of(channels, kernel_size, ratio, None, spatial_dims)
        if iterations < 0:
            raise InputError(f"iterations={iterations}: give 0 or more")
        kernel, sources = sizes.kernel, sizes.source_channels
        conv, padding = CONV[len(kernel)], tuple(size // 2 for size in kernel)
        self.source_channels = sources
        self.initial_source = conv(channels, sources, kernel_size=1)
        self.convs = nn.ModuleList(
            conv(sources, sources, kernel_size=kernel, padding=padding, groups=sources, bias=False)
            for _ in range(_CORRELATIONS * iterations)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new initial projection and new filters (Kaiming-uniform with the gain of a ReLU)."""
        self.initial_source.reset_parameters()
        for conv in self.convs:
            nn.init.kaiming_uniform_(cast(Tensor, conv.weight), nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return the source (B, C * ratio, \\*S) of (B, C, \\*S)."""
        source = torch.relu(self.initial_source(x))
        for conv in self.convs:
            source = torch.relu(conv(source))
        return source
