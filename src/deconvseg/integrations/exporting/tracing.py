"""A network as a program of plain PyTorch operators (``torch.export``), for batches and sizes as open as possible."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from deconvseg.errors import DeconvsegError
from deconvseg.models import Network
from deconvseg.ops import exported_sampling
from deconvseg.ops.deformable_upsample.exporting import Form
from deconvseg.system import FOREIGN_ERRORS, first_line

# The samples of the example. PyTorch keeps a size of 1 as a constant.
_SAMPLES = 2
# The largest difference of another size's logits, relative to the largest logit, that rounding explains.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Traced:
    """A network's program, and the inputs that it takes.

    Attributes:
        program: the program; it takes one image (B, C, \\*S) and returns logits (B, K, \\*S).
        channels: channels of the image.
        size: spatial sizes of the example, which are the only ones unless ``any_size``.
        any_batch: whether the program takes any number of samples; otherwise it takes one.
        any_size: whether the program takes every size that is a multiple of the network's ``size_multiple``.
        reason: why sizes or the batch are fixed, if they are.

    """

    program: ExportedProgram
    channels: int
    size: tuple[int, ...]
    any_batch: bool
    any_size: bool
    reason: str | None = None

    def of_one_size(self, size: Sequence[int], reason: str) -> Traced:
        """Return the same program, of which a conversion takes one sample of one size only, for a reason."""
        return replace(self, size=tuple(size), any_batch=False, any_size=False, reason=reason)


class Members(nn.Module):
    """Several networks with the same input, whose logits are concatenated: (B, N * K, \\*S), network by network.

    A reader takes the softmax or sigmoid of each network's logits after windows are averaged, and then the mean, as
    :class:`~deconvseg.inference.Predictor` does. Probabilities averaged within a window would give other masks.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.exporting import Members
        >>> from deconvseg.models import UNet
        >>> networks = [UNet(1, 2, 2, widths=(4, 8)) for _ in range(3)]
        >>> Members(networks)(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 6, 8, 8])

    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        multiples = zip(*(network.size_multiple for network in networks), strict=True)
        self.size_multiple = tuple(math.lcm(*axis) for axis in multiples)
        self.fixed_size = next((network.fixed_size for network in networks if network.fixed_size is not None), None)
        self.in_channels = networks[0].in_channels
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Return all logits of an image (B, C, \\*S)."""
        return torch.cat([network(x) for network in self.networks], dim=1)


def trace(network: Network | Members, size: Sequence[int], *, sampling: Form = "gather") -> Traced:
    """Export a network to plain PyTorch operators, for any batch and size if the network allows it.

    ``size`` (\\*S), such as the patch of the training, is the fixed size of a program that cannot take others: because
    the network was built for one size, or because ``torch.export`` finds that its code depends on the size. A program
    of open sizes is compared with the network at another batch and size. ``sampling`` is the form of deformable
    upsampling (:func:`~deconvseg.ops.exported_sampling`). Raises :class:`~deconvseg.errors.DeconvsegError` for a
    network that cannot be exported.

    Example:
        >>> from deconvseg.integrations.exporting import trace
        >>> from deconvseg.models import UNet
        >>> traced = trace(UNet(1, 2, 2, widths=(4, 8)), (32, 32))
        >>> traced.any_batch, traced.any_size, traced.reason
        (True, True, None)

    """
    network = deepcopy(network).cpu().float().eval()
    fixed = network.fixed_size
    reasons = [] if fixed is None else [f"the network was built for {_times(fixed)} alone"]
    attempts = [(True, False), (False, False)] if fixed else [(True, True), (True, False), (False, False)]
    for any_batch, any_size in attempts:
        given = _example(network, any_batch, any_size, fixed or tuple(size))
        try:
            with exported_sampling(sampling), torch.no_grad(), quiet():
                program = torch.export.export(network, (given,), dynamic_shapes=_shapes(given, any_batch, any_size))
                if any_batch:
                    _check_other_size(program, network, any_size, given)
        except (*FOREIGN_ERRORS, _WrongElsewhereError) as error:
            reasons.append(f"torch.export: {first_line(error)}")
            continue
        reason = None if any_batch and any_size else reasons[0]
        return Traced(program, network.in_channels, tuple(given.shape[2:]), any_batch, any_size, reason)
    raise DeconvsegError(f"this network cannot be exported: {reasons[-1]}")


class _WrongElsewhereError(Exception):
    """A program gives other logits than its network for a size that it claims to take."""


def _example(network: Network | Members, any_batch: bool, any_size: bool, fixed: tuple[int, ...]) -> Tensor:
    """Return noise of the smallest size for a program of open sizes, with another size along each axis."""
    multiples = network.size_multiple
    size = tuple((2 + axis) * multiple for axis, multiple in enumerate(multiples)) if any_size else fixed
    return _noise(_SAMPLES if any_batch else 1, network.in_channels, size)


def _noise(batch: int, channels: int, size: Sequence[int]) -> Tensor:
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(0))


def _shapes(example: Tensor, any_batch: bool, any_size: bool) -> tuple[dict[int, object], ...] | None:
    axes = ([0] if any_batch else []) + (list(range(2, example.ndim)) if any_size else [])
    return (dict.fromkeys(axes, Dim.DYNAMIC),) if axes else None


def _check_other_size(program: ExportedProgram, network: Network | Members, any_size: bool, example: Tensor) -> None:
    size = [4 * multiple for multiple in network.size_multiple] if any_size else example.shape[2:]
    image = _noise(1 if example.shape[0] > 1 else 2, network.in_channels, size)
    expected, found = network(image), program.module()(image)
    difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not difference <= _ROUNDING:
        raise _WrongElsewhereError(f"its logits for {_times(size)} differ by {difference:.1g} of the largest")


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings of exporters about their own code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _times(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
