"""Deformable transposed convolution (DTC, arXiv 2601.17939, section 3)."""

from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.dimensions import CONV, CONV_TRANSPOSE, check_image, check_spatial_dims, per_axis
from deconvseg.nn.upsampling.options import check_options
from deconvseg.nn.upsampling.registry import register_upsampling
from deconvseg.nn.upsampling.sampling import SamplingLayer
from deconvseg.ops import deformable_upsample
from deconvseg.ops.backends import Choice
from deconvseg.ops.deformable_upsample import choose_upsample
from deconvseg.ops.layout import in_order_of

Component = Literal["weight", "sigmoid", "tanh"]
DTC_COMPONENTS: tuple[Component, ...] = get_args(Component)


@register_upsampling("dtc", adaptive=True)
class DTC(SamplingLayer):
    """Deformable transposed convolution: sample a 1x1 convolution of the input at learned positions.

    A transposed convolution (kernel = stride = scale) predicts one offset per axis and one weight per offset at every
    output position. Tanh and sigmoid bound them, Eq. 1 converts them to positions, and Eq. 2 samples there. The module
    is part (b) of the paper's Fig. 3; its sums with other upsamplings are ``"dtc+linear"`` and ``"dtc+transposed"`` of
    :func:`~deconvseg.nn.create_upsampling`. The paper suggests receptive fields that suit single organs; ``heads`` and
    ``learnable`` are this package's answer.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        scale: upsampling factor, one number or one per axis.
        spatial_dims: 2 or 3.
        receptive_field: range of the positions: λ = receptive_field / (2 * size) on every input axis; infinity
            (``float("inf")`` or ``"inf"``) means λ = 1.
        init: ``"default"`` (PyTorch's initialisation), ``"bilinear"`` (the offset layer is zero, which gives linear
            interpolation of the 1x1 convolution) or ``"zero"`` (the 1x1 convolution is zero too, which adds nothing).
        components: components of Table 4 in use: ``"weight"`` multiplies the offsets by predicted weights,
            ``"sigmoid"`` bounds the weights to [0, 1], ``"tanh"`` bounds the offsets to [-1, 1].
        heads: number of groups of output channels, each with its own positions (1 in the paper).
        learnable: learn the range of each head on each axis: a factor of ``receptive_field``, 1 at first.

    Shapes: input (B, in_channels, \\*S); output (B, out_channels, \\*(S * scale)).

    Example:
        >>> import torch
        >>> from deconvseg.nn import DTC
        >>> DTC(8, 4, scale=2, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 4, 16, 16])

    """

    takes_base = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int | Sequence[int] = 2,
        spatial_dims: int = 3,
        *,
        receptive_field: Annotated[float, Field(gt=0)] | Literal["inf"] = 2.0,
        init: Literal["default", "bilinear", "zero"] = "default",
        components: Sequence[Component] = DTC_COMPONENTS,
        heads: Annotated[int, Field(ge=1)] = 1,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims, (2, 3))
        check_options(
            DTC,
            receptive_field=receptive_field,
            init=init,
            components=components,
            heads=heads,
            learnable=learnable,
        )
        if out_channels % heads:
            raise InputError(
                f"DTC: {out_channels} output channels do not divide into heads={heads}: give a multiple of {heads} "
                "channels, or other heads"
            )
        self.in_channels = in_channels
        self.scale = per_axis(scale, spatial_dims, "scale")
        self.receptive_field = float(receptive_field)
        self.init = init
        self.components = _in_use(components)
        self.heads = heads
        self.learnable = learnable
        predicted = heads * (2 * spatial_dims if "weight" in self.components else spatial_dims)
        self.project = CONV[spatial_dims](in_channels, out_channels, kernel_size=1)
        self.coordinates = CONV_TRANSPOSE[spatial_dims](
            in_channels, predicted, kernel_size=self.scale, stride=self.scale
        )
        if learnable:
            self.log_range = nn.Parameter(torch.zeros(heads, spatial_dims))
        self.reset_parameters()

    @property
    def starts_at_zero(self) -> bool:
        """Whether a new layer's output is zero everywhere."""
        return self.init == "zero"

    def reset_parameters(self) -> None:
        """Draw new parameters according to ``init``."""
        self.project.reset_parameters()
        self.coordinates.reset_parameters()
        if self.init in ("bilinear", "zero"):
            _zero(self.coordinates)
        if self.init == "zero":
            _zero(self.project)
        if self.learnable:
            nn.init.zeros_(self.log_range)

    @property
    def undecayed(self) -> tuple[str, ...]:
        """The parameters without weight decay, which would pull the learned ranges back to ``receptive_field``."""
        return ("log_range",) if self.learnable else ()

    @property
    def receptive_fields(self) -> Tensor:
        """The receptive field of each head on each axis, (heads, axes), in array order."""
        factor = self.log_range.detach().exp() if self.learnable else torch.ones(self.heads, len(self.scale))
        return self.receptive_field * factor

    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """Upsample (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)) and add ``base`` of this shape."""
        check_image(x, self.in_channels, len(self.scale), "DTC")
        offsets, weights = self.predict(x)
        features = self.project(x)
        if self.heads > 1:
            features, base = _by_head(features, self.heads), None if base is None else _by_head(base, self.heads)
        out = deformable_upsample(
            features, offsets, weights, scale=self.scale, receptive_field=self.receptive_field, base=base
        )
        return out if self.heads == 1 else in_order_of(x, torch.unflatten(out, 0, (-1, self.heads)).flatten(1, 2))

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return offsets and weights, each (B * heads, axes, \\*(S * scale)), the last array axis first."""
        offsets, weights = self.coordinates(x), None
        if self.heads > 1:
            offsets = _by_head(offsets, self.heads)
        if "weight" in self.components:
            offsets, weights = offsets.chunk(2, dim=1)
            weights = torch.sigmoid(weights) if "sigmoid" in self.components else weights
        offsets = torch.tanh(offsets) if "tanh" in self.components else offsets
        if self.learnable:
            # A factor of the offset is the same factor of λ in Eq. 1.
            factor = self.log_range.exp().flip(1).view(self.heads, -1, *[1] * len(self.scale))
            offsets = (torch.unflatten(offsets, 0, (-1, self.heads)) * factor).flatten(0, 1)
        return offsets, weights

    def explain_backend(self) -> Choice:
        """Return the backend for inputs with the device and type of the parameters."""
        axes = len(self.scale)
        channels = self.project.out_channels // self.heads
        features = self.project.weight.detach().new_empty(1, channels, *[1] * axes)
        offsets = features.new_empty(1, axes, *self.scale)
        weights = offsets if "weight" in self.components else None
        field = self.receptive_field
        return choose_upsample(features, offsets, weights, scale=self.scale, receptive_field=field)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        moves = f"receptive_field={self.receptive_field}, components={self.components}"
        further = f", heads={self.heads}" if self.heads > 1 else ""
        further += ", learnable=True" if self.learnable else ""
        return f"scale={self.scale}, init={self.init!r}, {moves}{further}"


def _in_use(components: Sequence[Component]) -> tuple[Component, ...]:
    if "sigmoid" in components and "weight" not in components:
        raise InputError(
            f"components={tuple(components)!r}: the sigmoid bounds weights, so add 'weight' or leave it out"
        )
    return tuple(component for component in DTC_COMPONENTS if component in components)


def _by_head(x: Tensor, heads: int) -> Tensor:
    return torch.unflatten(x, 1, (heads, -1)).flatten(0, 1)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
