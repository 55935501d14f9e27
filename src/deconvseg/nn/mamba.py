"""Mamba, the selective state space model (arXiv 2312.00752), with several scan orders for images."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.nn.fusion import guard_calls, is_watched, why_special
from deconvseg.ops import selective_scan
from deconvseg.ops.backends import Choice
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.overriding import is_symbolic
from deconvseg.ops.selective_scan import choose_scan
from deconvseg.ops.torch_internals import constant_to_compilers

SCAN_DIRECTIONS = ("forward", "backward", "slices")

# Range of the initial time steps, and their lower bound (Mamba, section 3.6).
_TIME_STEPS = (1e-3, 1e-1)
_LEAST_TIME_STEP = 1e-4


class TimeSteps(nn.Linear):
    """The projection to the time steps Δ of a scan.

    Its bias is initialised so that softplus gives time steps between 0.001 and 0.1, uniform on a log scale (Mamba,
    section 3.6).
    """

    def reset_parameters(self) -> None:
        """Draw new parameters with the published initialisation."""
        bound = self.in_features**-0.5
        nn.init.uniform_(self.weight, -bound, bound)
        shortest, longest = (math.log(step) for step in _TIME_STEPS)
        with torch.no_grad():
            steps = torch.empty_like(self.bias).uniform_(shortest, longest).exp().clamp(min=_LEAST_TIME_STEP)
            self.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # inverse softplus


_LINEAR = nn.Linear, TimeSteps


class _Projecting(nn.Module):
    """A module that applies its linear layers to sequences (B, I, L)."""

    def _project(self, name: str, x: Tensor) -> Tensor:
        """Map the channels of (B, I, L) to (B, O, L) by a linear layer."""
        out, bias = self._project_without_bias(name, x)
        return out if bias is None else out + bias[:, None]

    def _project_without_bias(self, name: str, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map the channels of (B, I, L) to (B, O, L) by a linear layer; also return the bias if it is not added yet.

        If no hook or replaced method requires a call of the layer, a matrix product computes the result with contiguous
        channels, which scans need.
        """
        layer = getattr(self, name)
        guard_calls(self, (name,))
        if is_watched() or self._is_special(name) or type(layer.weight) not in (Tensor, nn.Parameter):
            mapped: Tensor = layer(x.mT).mT
            return mapped, None
        return torch.bmm(layer.weight.expand(x.shape[0], -1, -1), x), layer.bias

    @constant_to_compilers
    def _is_special(self, name: str) -> bool:
        return why_special(getattr(self, name), _LINEAR) is not None


class CausalScan(_Projecting):
    """One direction of a Mamba block: a causal depthwise convolution, SiLU, and the selective scan (Mamba, Alg. 2).

    ``rank`` is the rank of the projection to the time steps Δ. The transition A is initialised as S4D-Real, -1 to
    -``states`` in every channel.

    Shapes: input and output (B, channels, L); no output step depends on later input steps. The parameters named in
    ``undecayed`` are trained without weight decay, as published.
    """

    undecayed: ClassVar[Sequence[str]] = ("A_log", "D")

    def __init__(self, channels: int, states: int, kernel_size: int, rank: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.rank = rank
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size - 1, groups=channels)
        self.x_proj = nn.Linear(channels, rank + 2 * states, bias=False)
        self.dt_proj = TimeSteps(rank, channels)
        self.A_log = nn.Parameter(torch.empty(channels, states))
        self.D = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new parameters with the published initialisation."""
        self.conv.reset_parameters()
        self.x_proj.reset_parameters()
        self.dt_proj.reset_parameters()
        with torch.no_grad():
            self.A_log.copy_(torch.arange(1, self.A_log.shape[1] + 1, device=self.A_log.device).log())
        nn.init.ones_(self.D)

    def forward(self, x: Tensor) -> Tensor:
        """Scan (B, channels, L)."""
        convolved = self.conv(x)
        if self.kernel_size > 1:
            # Drops the padding at the end without the length of the sequence, which a traced program would keep as a
            # constant.
            convolved = convolved[..., : 1 - self.kernel_size]
        u, states = F.silu(convolved), self.A_log.shape[1]
        sizes = [self.rank, states, states]
        delta, b, c = torch.split(self._project("x_proj", u), sizes, dim=1)
        delta, bias = self._project_without_bias("dt_proj", delta)
        return selective_scan(u, delta, -torch.exp(self.A_log), b, c, skip=self.D, delta_bias=bias, softplus=True)

    def explain_backend(self) -> Choice:
        """Return the backend for inputs with the device and type of the parameters."""
        a, skip = self.A_log.detach(), self.D.detach()
        u, projected = a.new_empty(1, a.shape[0], 1), a.new_empty(1, a.shape[1], 1)
        return choose_scan(u, u, a, projected, projected, skip=skip, delta_bias=skip, softplus=True)


class Mamba(_Projecting):
    """A Mamba block: the sum of scans in one or several orders, gated by a second projection of the input.

    Args:
        channels: channels of input and output.
        directions: orders of the scans, each with its own parameters: ``"forward"``, ``"backward"``, and ``"slices"``,
            which visits the first step of every slice, then the second step of every slice, and so on (SegMamba, arXiv
            2401.13560, uses all three).
        slices: number of equally long parts of the sequence for the order ``"slices"``.
        states: states N per inner channel.
        kernel_size: kernel size of the causal convolution, in steps.
        expand: inner channels per channel.

    Shapes: input and output (B, channels, L). Raises :class:`~deconvseg.errors.InputError` for an unknown order, and if
    ``slices`` does not divide L.

    Example:
        >>> import torch
        >>> from deconvseg.nn import Mamba
        >>> Mamba(8, directions=("forward", "backward"))(torch.rand(1, 8, 32)).shape
        torch.Size([1, 8, 32])

    """

    def __init__(
        self,
        channels: int,
        directions: Sequence[str] = ("forward",),
        slices: int = 1,
        *,
        states: int = 16,
        kernel_size: int = 4,
        expand: int = 2,
    ) -> None:
        super().__init__()
        for direction in directions:
            check_choice(direction, SCAN_DIRECTIONS, "directions:")
        sizes = {"channels": channels, "slices": slices, "states": states, "kernel_size": kernel_size, "expand": expand}
        for name, value in {**sizes, "number of directions": len(directions)}.items():
            if value < 1:
                raise InputError(f"{name}={value!r}: give a positive number")
        inner = expand * channels
        self.directions = tuple(directions)
        self.slices = slices
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.scans = nn.ModuleList(
            CausalScan(inner, states, kernel_size, math.ceil(channels / 16)) for _ in self.directions
        )
        self.out_proj = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, channels, L) along L."""
        given = x
        if "slices" in self.directions and not is_symbolic(x) and x.shape[-1] % self.slices:
            raise InputError(
                f"{x.shape[-1]} steps do not divide into slices={self.slices}: choose a divisor, or pad the sequence"
            )
        x, gate = self._project("in_proj", x).chunk(2, dim=1)
        total: Tensor | None = None
        for direction, scan in zip(self.directions, self.scans, strict=True):
            y = _restore(scan(_reorder(x, direction, self.slices)), direction, self.slices)
            total = y if total is None else total + y
        assert total is not None
        # The gate depends only on the position, so gating the sum equals gating every scan.
        mixed = total * F.silu(gate)
        out: Tensor = self.out_proj(mixed.mT)
        return in_order_of(given, out.mT)

    def extra_repr(self) -> str:
        """Arguments, for ``print``."""
        return f"directions={self.directions}, slices={self.slices}"


class SiameseMamba(nn.Module):
    """The mean of one Mamba block over four orders: unchanged, steps reversed, channels reversed, and both.

    This is the channel-spatial siamese learning of nnMamba (arXiv 2402.03526). The four passes share all weights, and
    their outputs are flipped back before the mean.

    Shapes: input and output (B, channels, L).

    Example:
        >>> import torch
        >>> from deconvseg.nn import SiameseMamba
        >>> SiameseMamba(8)(torch.rand(1, 8, 32)).shape
        torch.Size([1, 8, 32])

    """

    def __init__(self, channels: int, *, states: int = 16) -> None:
        super().__init__()
        self.mamba = Mamba(channels, states=states)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, channels, L) along L."""
        orders: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))
        flipped = torch.stack([x.flip(axes) for axes in orders])
        mixed = torch.unflatten(self.mamba(flipped.flatten(0, 1)), 0, (len(orders), -1))
        return torch.stack([mixed[index].flip(axes) for index, axes in enumerate(orders)]).mean(dim=0)


def _reorder(x: Tensor, direction: str, slices: int) -> Tensor:
    if direction == "forward":
        return x
    return x.flip(-1) if direction == "backward" else torch.unflatten(x, -1, (slices, -1)).mT.flatten(-2)


def _restore(x: Tensor, direction: str, slices: int) -> Tensor:
    if direction == "forward":
        return x
    return x.flip(-1) if direction == "backward" else torch.unflatten(x, -1, (-1, slices)).mT.flatten(-2)
