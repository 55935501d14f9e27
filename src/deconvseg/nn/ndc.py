"""The nonnegative deconvolution layer of Deconver (arXiv 2504.00302, section III-F)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV, check_spatial_dims, per_axis
from deconvseg.ops import ndc_update
from deconvseg.ops.backends import Choice
from deconvseg.ops.ndc import choose_update


@dataclass(frozen=True)
class SourceSizes:
    """The filter size along each axis, the number of groups, and the channels of the source."""

    kernel: tuple[int, ...]
    groups: int
    source_channels: int

    @classmethod
    def of(
        cls,
        channels: int,
        kernel_size: int | Sequence[int],
        ratio: float,
        groups: int | None,
        spatial_dims: int | None,
    ) -> "SourceSizes":
        """Return the sizes for the arguments of :class:`NDC`; :class:`InputError` if they do not fit each other."""
        if spatial_dims is None:
            spatial_dims = 3 if isinstance(kernel_size, int) else len(kernel_size)
        check_spatial_dims(spatial_dims, (1, 2, 3))
        kernel = per_axis(kernel_size, spatial_dims, "kernel_size")
        if any(size % 2 == 0 for size in kernel):
            raise InputError(f"kernel_size={kernel_size!r}: deconvolution needs odd sizes, such as 3 or 5")
        groups = channels if groups is None else groups
        if groups < 1 or channels % groups:
            raise InputError(f"groups={groups} does not divide {channels} channels: choose a divisor, or None")
        sources = channels * ratio / groups
        if not 1 <= sources < math.inf or sources != int(sources):
            raise InputError(
                f"ratio={ratio} makes {channels * ratio:g} source channels of {channels}, not a multiple of "
                f"groups={groups}: choose another ratio or number of groups"
            )
        return cls(kernel, groups, int(sources) * groups)


class NDC(nn.Module):
    """Nonnegative deconvolution: model the input as a nonnegative source convolved with learned nonnegative filters.

    The layer returns the source. A pointwise convolution and a ReLU compute the initial source from the input, and
    ``iterations`` multiplicative updates refine it (Eq. 7). Filters are initialised Kaiming-uniform and pass through a
    ReLU before every use.

    Args:
        channels: channels C of the input.
        kernel_size: odd filter size, one number or one per axis.
        ratio: source channels per input channel, R; ``channels * ratio`` must be a multiple of ``groups``.
        groups: number of groups G, a divisor of the channels; ``None`` means as many as channels.
        iterations: number of updates; 0 returns the initial source.
        eps: the constant of Eq. 7; 0 is allowed (a zero denominator then gives 0).
        spatial_dims: number of spatial axes; ``None`` means the length of ``kernel_size``, or 3 for one number.

    Shapes: input (B, C, \\*S), nonnegative; output (B, C * ratio, \\*S). Under autocast the update is float32.

    Example:
        >>> import torch
        >>> from deconvseg.nn import NDC
        >>> layer = NDC(8, kernel_size=3, ratio=2, spatial_dims=2)
        >>> layer(torch.rand(1, 8, 8, 8)).shape
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
        if iterations < 0 or not eps >= 0:
            raise InputError(f"iterations={iterations}, eps={eps}: neither may be negative")
        self.channels = channels
        self.groups = sizes.groups
        self.source_channels = sizes.source_channels
        self.iterations = iterations
        self.eps = eps
        self.filters = nn.Parameter(torch.empty(channels, sizes.source_channels // sizes.groups, *sizes.kernel))
        self.initial_source = CONV[len(sizes.kernel)](channels, self.source_channels, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new filters (Kaiming-uniform with the gain of PyTorch's convolutions) and a new initial projection."""
        nn.init.kaiming_uniform_(self.filters, a=math.sqrt(5))
        self.initial_source.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Return the source (B, C * ratio, \\*S) of a nonnegative (B, C, \\*S)."""
        source = torch.relu(self.initial_source(x))
        filters = torch.relu(self.filters)
        for _ in range(self.iterations):
            source = ndc_update(x, source, filters, groups=self.groups, eps=self.eps)
        return source

    def explain_backend(self) -> Choice:
        """Return the backend for inputs with the device and type of the filters."""
        filters = self.filters.detach()
        size = [1] * (filters.ndim - 2)
        x, source = (filters.new_empty(1, channels, *size) for channels in (self.channels, self.source_channels))
        return choose_update(x, source, filters, groups=self.groups, eps=self.eps)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        kernel = tuple(self.filters.shape[2:])
        return (
            f"{self.channels}, kernel_size={kernel}, source_channels={self.source_channels}, groups={self.groups}, "
            f"iterations={self.iterations}, eps={self.eps}"
        )
