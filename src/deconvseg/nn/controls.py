"""Layers that an ablation puts in the place of nonnegative deconvolution, with its arguments and shapes."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.ndc import NDC, SourceSizes

# Eq. 7 correlates three times: X with V, S with V, and their convolution with V again.
_CORRELATIONS = 3


class InitialSource(nn.Module):
    """The source of :class:`~deconvseg.nn.NDC` before any update: a pointwise convolution and a ReLU.

    It has no filters: what is left of Deconver is its convolutional skeleton. The arguments are those of
    :class:`~deconvseg.nn.NDC`; those of the update have no effect. Shapes: input (B, C, \\*S), output
    (B, C * ratio, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.nn import InitialSource
        >>> InitialSource(8, kernel_size=3, ratio=2, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 16, 8, 8])

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
        sizes = SourceSizes.of(channels, kernel_size, ratio, groups, spatial_dims)
        self.source_channels = sizes.source_channels
        self.initial_source = CONV[len(sizes.kernel)](channels, sizes.source_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the initial source (B, C * ratio, \\*S) of (B, C, \\*S)."""
        return torch.relu(self.initial_source(x))


class DepthwiseSource(InitialSource):
    """Depthwise convolutions of the initial source, which cost as much as the updates of :class:`~deconvseg.nn.NDC`.

    In the place of each of the ``iterations`` are three depthwise convolutions of ``kernel_size`` without bias, each
    followed by a ReLU: they take as many multiply-accumulates as the three correlations of an update, and the output is
    nonnegative too. Filters are initialised Kaiming-uniform with the gain of a ReLU. The arguments are those of
    :class:`~deconvseg.nn.NDC`, with one group for each channel; ``eps`` has no effect. Shapes: input (B, C, \\*S),
    output (B, C * ratio, \\*S).

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
        groups: int | None = None,
        iterations: int = 1,
        eps: float = 1e-8,
        *,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__(channels, kernel_size, ratio, groups, spatial_dims=spatial_dims)
        if groups not in (None, channels):
            raise InputError(f"groups={groups}: depthwise convolutions have one group per channel; leave it out")
        if iterations < 0:
            raise InputError(f"iterations={iterations}: give 0 or more")
        kernel = SourceSizes.of(channels, kernel_size, ratio, groups, spatial_dims).kernel
        conv, sources = CONV[len(kernel)], self.source_channels
        padding = tuple(size // 2 for size in kernel)
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
        source: Tensor = super().forward(x)
        for conv in self.convs:
            source = torch.relu(conv(source))
        return source


MIXING: Mapping[str, type[NDC | InitialSource]] = {"ndc": NDC, "depthwise": DepthwiseSource, "none": InitialSource}
