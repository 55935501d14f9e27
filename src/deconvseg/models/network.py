"""Base classes of the registered networks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.models.fitting import Grid, Size, fit_stages
from deconvseg.nn.dimensions import CONV
from deconvseg.ops.overriding import is_symbolic


class Network(nn.Module):
    """Base class of segmentation networks: (B, in_channels, \\*S) to logits (B, out_channels, \\*S).

    Attributes:
        config: all constructor arguments in JSON types: ``create_model(name, **network.config)`` rebuilds the network.
        in_channels: channels of the input.
        out_channels: channels of the logits.
        spatial_dims: number of spatial axes.
        size_multiple: every spatial size must be a multiple of this, one number per axis.
        fixed_size: the only spatial size that the network supports, or None.
        deep_supervision_heads: number of extra heads.
        extra_heads: the extra heads, highest resolution first, if the network has any.

    A subclass passes a copy of its ``locals()``, taken first, as ``config``. Channels, axes and heads come from the
    configuration, unless a subclass without these arguments passes them.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from deconvseg.models import Network
        >>> class Pointwise(Network):
        ...     def __init__(self, in_channels, out_channels, spatial_dims=2):
        ...         super().__init__(dict(locals()), size_multiple=(1,) * spatial_dims)
        ...         self.head = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        ...
        ...     def forward(self, x):
        ...         self.check_input(x)
        ...         return self.head(x)
        >>> Pointwise(1, 2).config
        {'in_channels': 1, 'out_channels': 2, 'spatial_dims': 2}

    """

    extra_heads: nn.ModuleList

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        size_multiple: Sequence[int],
        fixed_size: Sequence[int] | None = None,
        in_channels: int | None = None,
        out_channels: int | None = None,
        spatial_dims: int | None = None,
        deep_supervision_heads: int | None = None,
    ) -> None:
        super().__init__()
        given = {name: value for name, value in config.items() if name not in ("self", "__class__")}
        self.config: dict[str, Any] = {name: _jsonable(value) for name, value in given.items()}
        self.in_channels: int = config["in_channels"] if in_channels is None else in_channels
        self.out_channels: int = config["out_channels"] if out_channels is None else out_channels
        self.spatial_dims: int = config["spatial_dims"] if spatial_dims is None else spatial_dims
        heads = config.get("deep_supervision_heads", 0) if deep_supervision_heads is None else deep_supervision_heads
        self.deep_supervision_heads: int = heads
        self.size_multiple = tuple(size_multiple)
        self.fixed_size = None if fixed_size is None else tuple(fixed_size)
        self._deep_supervision = False

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield sizes for the planner, narrowest first: a name and constructor arguments without channels and axes.

        The default is for networks with the arguments ``widths`` and ``strides``; other networks override it. A network
        that cannot be fitted raises an :class:`~deconvseg.errors.InputError` whose message completes the sentence
        "model 'name' ...".
        """
        return fit_stages(cls, grid, patch)

    @property
    def deep_supervision(self) -> bool:
        """Whether ``forward`` returns a list of logits, highest resolution first; the parameters are the same."""
        return self._deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, on: bool) -> None:
        if on and self.deep_supervision_heads == 0:
            raise InputError(
                f"this {type(self).__name__} has no heads for deep supervision: build it with deep_supervision_heads=1 "
                "or more, where it takes that argument"
            )
        self._deep_supervision = bool(on)

    def create_extra_heads(self, widths: Sequence[int]) -> nn.ModuleList:
        """Return a pointwise head for each of the first ``deep_supervision_heads`` widths, highest resolution first."""
        conv, supervised = CONV[self.spatial_dims], widths[: self.deep_supervision_heads]
        return nn.ModuleList(conv(width, self.out_channels, kernel_size=1) for width in supervised)

    def apply_heads(self, head: nn.Module, features: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Return the head's logits of the first features, or a list of all heads' while ``deep_supervision`` is on."""
        if not self.deep_supervision:
            return logits_of(head, features[0])
        return [logits_of(each, x) for each, x in zip([head, *self.extra_heads], features, strict=False)]

    def load_weights(self, weights: Mapping[str, Tensor], source: str, expected: str = "this one") -> None:
        """Load a state dict; if names or shapes differ, raise :class:`InputError` without loading anything.

        The error names the ``source`` of the weights and the ``expected`` network.
        """
        wanted = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        if differing:
            name = differing[0]
            raise InputError(
                f"{source}: the weights are of another network than {expected}; {len(differing)} tensors differ, first "
                f"{name}: {_shape(found, name)} instead of {_shape(wanted, name)}"
            )
        self.load_state_dict(weights)

    def check_input(self, x: Tensor) -> None:
        """Raise :class:`InputError` for an input of the wrong shape, with the size to pad to."""
        if is_symbolic(x):
            return
        name = type(self).__name__
        if x.ndim != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise InputError(
                f"{name} got an input of shape {tuple(x.shape)}: it needs (batch, {self.in_channels} channels, "
                f"{self.spatial_dims} spatial sizes)"
            )
        if not x.is_floating_point():
            raise InputError(f"{name} got an image of {x.dtype}: give floating-point numbers, as by image.float()")
        self.check_size(tuple(x.shape[2:]))

    def check_size(self, size: Sequence[int]) -> None:
        """Raise :class:`InputError` for an unsupported spatial size, with the size to pad to."""
        name, size = type(self).__name__, tuple(size)
        if self.fixed_size is not None and size != self.fixed_size:
            larger = any(length > fixed for length, fixed in zip(size, self.fixed_size, strict=True))
            todo = "take windows of that size" if larger else f"pad to {self.fixed_size}"
            raise InputError(f"{name} got spatial size {size}, but was built for {self.fixed_size} alone: {todo}")
        if any(length % multiple for length, multiple in zip(size, self.size_multiple, strict=True)):
            padded = tuple(math.ceil(n / m) * m for n, m in zip(size, self.size_multiple, strict=True))
            raise InputError(
                f"{name} got spatial size {size}, which must be a multiple of {self.size_multiple}: pad to {padded}"
            )


class WrappedNetwork(Network):
    """A network built by another package, with the initialisation of that package.

    ``body`` is that package's module, if it computes the logits by itself.
    """

    body: nn.Module

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S)."""
        self.check_input(x)
        return logits_of(self.body, x)

    def reset_parameters(self) -> None:
        """Draw new parameters and buffers of all layers, as the constructor does.

        With the same seed they equal those of a new network. Layers added after construction, such as another
        upsampling, are not changed.
        """
        with torch.device("cpu"):
            fresh = type(self)(**self.config)
        values = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
        with torch.no_grad():
            for name, tensor in (*self.named_parameters(), *self.named_buffers()):
                if name in values and values[name].shape == tensor.shape:
                    tensor.copy_(values[name])


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return str(shapes[name]) if name in shapes else "none"


def logits_of(head: nn.Module, features: Tensor) -> Tensor:
    """Apply a head to (B, C, \\*S), and return contiguous logits."""
    logits: Tensor = head(features)
    return logits.contiguous()


def log_sigmoid(x: Tensor) -> Tensor:
    """Return log sigmoid(x); in ONNX ``F.logsigmoid`` becomes Log(Sigmoid(x)), which is -inf below -104."""
    return -F.softplus(-x)


def _jsonable(value: Any) -> Any:
    """Convert a value for strict JSON: sequences to lists, NumPy numbers to Python's, infinity to ``"inf"``."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {name: _jsonable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value
