"""The layers of Factorizer (Ashtari et al., Medical Image Analysis 2023, arXiv 2202.12295)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.conv import Conv2d, Conv3d
from deconvseg.nn.dimensions import CONV, check_spatial_dims, per_axis
from deconvseg.nn.fusion import why_apart
from deconvseg.nn.mlp import pointwise_mlp
from deconvseg.ops import windowed_nmf
from deconvseg.ops.backends import why_reference
from deconvseg.ops.layout import channels_last, in_order_of
from deconvseg.ops.nmf.places import shifts_per_axis
from deconvseg.ops.overriding import is_symbolic, overridable

# Positions that pass through all pointwise layers at a time, so that hidden channels stay in a CPU's cache.
_POSITIONS = 8192
_INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position of (B, C, \\*S), with a scale and shift per channel."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, \\*S)."""
        return in_order_of(input, super().forward(input.movedim(1, -1)).movedim(-1, 1))


class PositionEmbedding(nn.Module):
    """Add a learned vector to each position of (B, C, \\*S), interpolated linearly if their size differs from S."""

    def __init__(self, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(1, channels, *size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new vectors from the standard normal distribution."""
        nn.init.normal_(self.vectors)

    def forward(self, x: Tensor) -> Tensor:
        """Add the vectors to (B, C, \\*S)."""
        return add_vectors(x, self.vectors)


@overridable
def add_vectors(x: Tensor, vectors: Tensor) -> Tensor:
    """Add vectors (1, C, \\*P) to the positions of (B, C, \\*S), interpolated linearly if P differs from S."""
    # A recorded program always interpolates, because it may be called with sizes other than that of the recording.
    if why_reference() is not None or x.shape[2:] != vectors.shape[2:]:
        vectors = F.interpolate(vectors, x.shape[2:], mode=_INTERPOLATION[x.ndim - 2], align_corners=False)
    return x + vectors


class NMFMixer(nn.Module):
    """Pointwise convolution, ReLU, nonnegative matrix factorisation of windows, pointwise convolution.

    Args:
        channels: channels C.
        window: window size in positions, one number or one per axis.
        shifts: shifts of the windows, each one number or one per axis, 0 for no shift; the approximations are averaged.
            ``None`` means shifts by 0, 1, 2 and 3 quarters of the window.
        head_dim: channels per head, a divisor of the channels.
        rank: rank of the factorisation.
        iterations: sweeps of HALS.
        spatial_dims: number of spatial axes, 2 or 3; ``None`` means the length of ``window``, or 3 for one number.

    The initial G of the sweeps, the buffer ``start``, is drawn once from [0, 1) and saved with the weights. Shapes:
    input and output (B, C, \\*S), every S a multiple of the window. Under autocast the factorisation is float32.

    Example:
        >>> import torch
        >>> from deconvseg.nn import NMFMixer
        >>> NMFMixer(8, window=4, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 8, 8, 8])

    """

    start: Tensor

    def __init__(
        self,
        channels: int,
        window: int | Sequence[int] = 4,
        shifts: Sequence[int | Sequence[int]] | None = None,
        head_dim: int = 8,
        rank: int = 1,
        iterations: int = 5,
        *,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims is None:
            spatial_dims = 3 if isinstance(window, int) else len(window)
        check_spatial_dims(spatial_dims, (2, 3))
        for name, value in (("head_dim", head_dim), ("rank", rank), ("iterations", iterations)):
            if value < 1:
                raise InputError(f"{name}={value!r}: give a positive number")
        if channels % head_dim:
            raise InputError(f"head_dim={head_dim} does not divide {channels} channels: choose a divisor")
        self.window = per_axis(window, spatial_dims, "window")
        self.shifts = _quarters(self.window) if shifts is None else shifts_per_axis(shifts, spatial_dims)
        self.head_dim = head_dim
        self.iterations = iterations
        conv = CONV[spatial_dims]
        self.project_in = conv(channels, channels, kernel_size=1, bias=False)
        self.project_out = conv(channels, channels, kernel_size=1)
        self.register_buffer("start", torch.empty(torch.Size(self.window).numel(), rank))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new initial G; the convolutions have their own ``reset_parameters``."""
        nn.init.uniform_(self.start)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, C, \\*S) over the positions of its windows."""
        out: Tensor = self.project_out(self.approximate(self.project(x)))
        return out

    def project(self, x: Tensor) -> Tensor:
        """Apply the first convolution and the ReLU to (B, C, \\*S)."""
        return torch.relu(self.project_in(x))

    def approximate(self, x: Tensor) -> Tensor:
        """Replace the windows of a nonnegative (B, C, \\*S) by low-rank approximations."""
        options = {"head_dim": self.head_dim, "iterations": self.iterations}
        return windowed_nmf(x, self.start, window=self.window, shifts=self.shifts, **options)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return (
            f"window={self.window}, shifts={self.shifts}, head_dim={self.head_dim}, rank={self.start.shape[1]}, "
            f"iterations={self.iterations}"
        )


class FactorizerBlock(nn.Module):
    """A transformer-like block with an :class:`NMFMixer` in place of attention.

    ``mlp_ratio`` is the expansion factor of the MLP; the other arguments are those of :class:`NMFMixer`. Shapes: input
    and output (B, C, \\*S), in the same memory format.

    Example:
        >>> import torch
        >>> from deconvseg.nn import FactorizerBlock
        >>> FactorizerBlock(8, window=4, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 8, 8, 8])

    """

    def __init__(
        self,
        channels: int,
        window: int | Sequence[int] = 4,
        shifts: Sequence[int | Sequence[int]] | None = None,
        head_dim: int = 8,
        rank: int = 1,
        iterations: int = 5,
        *,
        mlp_ratio: float = 4,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        mixer = NMFMixer(channels, window, shifts, head_dim, rank, iterations, spatial_dims=spatial_dims)
        self.norm1 = ChannelNorm(channels)
        self.mixer = mixer
        self.norm2 = ChannelNorm(channels)
        self.mlp = pointwise_mlp(channels, mlp_ratio, len(mixer.window))

    def forward(self, x: Tensor) -> Tensor:
        """Apply mixer and MLP, each with a residual connection, to (B, C, \\*S).

        On a CPU without gradients, the pointwise layers process the image part by part, if this gives the same result.
        """
        return in_order_of(x, self._mix(channels_last(x)))

    def _mix(self, x: Tensor) -> Tensor:
        special = is_symbolic(x) or torch.compiler.is_compiling() or why_reference(x) is not None
        whole = special or torch.is_grad_enabled() or x.device.type != "cpu"
        if whole or why_apart(self, _MODULES):
            x = x + self.mixer(self.norm1(x))
            out: Tensor = x + self.mlp(self.norm2(x))
            return out
        mixed = self.mixer.approximate(_by_parts(lambda part: self.mixer.project(self.norm1(part)), x))
        return _by_parts(self._finish, x, mixed)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self.mixer.project_out(mixed)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def _by_parts(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """Apply a pointwise function to some positions of each sample at a time."""
    out = torch.empty_like(images[0])
    rows = max(1, _POSITIONS // max(1, out.shape[3:].numel()))
    for sample in zip(*(torch.split(image, 1) for image in (out, *images)), strict=True):
        for part, *inputs in zip(*(torch.split(image, rows, 2) for image in sample), strict=True):
            part.copy_(function(*inputs))
    return out


def _quarters(window: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    shifts = (tuple(quarter * size // 4 for size in window) for quarter in range(4))
    return tuple(dict.fromkeys(shifts))


_CONVS = (Conv2d, Conv3d)
# Modules of a block whose pointwise layers may process parts of the image; the constructor makes exactly these.
_MODULES: dict[str, tuple[type, ...]] = {
    "norm1": (ChannelNorm,),
    "mixer": (NMFMixer,),
    "mixer.project_in": _CONVS,
    "mixer.project_out": _CONVS,
    "norm2": (ChannelNorm,),
    "mlp": (nn.Sequential,),
    "mlp.0": _CONVS,
    "mlp.1": (nn.GELU,),
    "mlp.2": _CONVS,
}
