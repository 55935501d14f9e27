"""Registry of the kinds of upsampling."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from deconvseg.nn.upsampling.options import Option, keyword_parameters, options_of
from deconvseg.system import load_plugins
from deconvseg.text import plain_documentation

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

_PLUGINS = "deconvseg.upsampling"
# Name of the argument for the channels of the skip connection.
_SKIP = "skip_channels"


@dataclass(frozen=True)
class UpsamplingKind:
    """A registered kind: the function that builds its layers, and the arguments of :func:`register_upsampling`."""

    name: str
    build: Callable[..., nn.Module]
    spatial_dims: tuple[int, ...]
    keeps_channels: bool
    adaptive: bool

    @property
    def options(self) -> dict[str, Option]:
        """Its options by name."""
        return {name: option for name, option in options_of(self.build).items() if name != _SKIP}

    @property
    def takes_skip(self) -> bool:
        """Whether its layers are made for a skip connection and called with it."""
        return _SKIP in keyword_parameters(self.build)

    @property
    def title(self) -> str:
        """The first sentence of its documentation."""
        return plain_documentation(self.build.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


_KINDS: dict[str, UpsamplingKind] = {}


def register_upsampling(
    name: str, *, spatial_dims: Sequence[int] = (2, 3), keeps_channels: bool = False, adaptive: bool = False
) -> Callable[[Builder], Builder]:
    """Register a class of layers, or a function that returns a layer, as a kind of upsampling.

    The kind is then available in the argument ``upsampling`` of every network, plan and preset, alone or in a sum such
    as ``"name+linear"``, in :func:`~deconvseg.nn.create_upsampling`, :func:`~deconvseg.nn.upgrade_upsampling` and
    ``deconvseg models NAME``. For the command line, and for the processes that train folds, a package registers it by
    an entry point of the group ``deconvseg.upsampling``.

    The class or function is called with ``in_channels, out_channels, scale, spatial_dims`` (``scale`` is a tuple with
    one factor per axis) and returns a module that maps (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)). Its
    keyword-only arguments are the kind's options. Each has a default and a type that JSON can represent; ``Literal``
    and ``Annotated[..., pydantic.Field(gt=0)]`` declare choices and bounds, and the docstring's ``Args:`` describes
    them. An argument ``skip_channels`` is not an option but receives the channels of the skip connection; the module
    then has an attribute ``needs_skip = True``, and is called with the skip connection as second argument.

    Args:
        name: name of the kind, without "+" and ".".
        spatial_dims: supported numbers of spatial axes.
        keeps_channels: whether the upsampling itself keeps the channels, so that changing them needs an additional
            convolution. The U-Net then reduces them in its own convolutions.
        adaptive: whether it learns from the image how to sample, like DTC; ``upgrade_upsampling`` does not change such
            layers.

    Raises ``ValueError`` for a name that is taken or has "+" or ".", and for an option without a default.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from deconvseg.nn import create_upsampling, register_upsampling
        >>> @register_upsampling("nearest", keeps_channels=True)
        ... def nearest(in_channels, out_channels, scale=(2, 2, 2), spatial_dims=3):
        ...     \"\"\"Repeat every pixel.\"\"\"
        ...     project = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(in_channels, out_channels, kernel_size=1)
        ...     return nn.Sequential(project, nn.Upsample(scale_factor=tuple(map(float, scale)), mode="nearest"))
        >>> create_upsampling("nearest", 8, 4, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 4, 16, 16])

    """

    def register(builder: Builder) -> Builder:
        if name in _KINDS:
            raise ValueError(f"an upsampling named {name!r} is already registered: choose another name")
        if not name or set(name) & set("+."):
            raise ValueError(f"an upsampling cannot be named {name!r}: leave out '+', which joins two, and '.'")
        for option, parameter in keyword_parameters(builder).items():
            if option != _SKIP and parameter.default is parameter.empty:
                raise ValueError(f"upsampling {name!r}: its option {option!r} has no default: give one")
        _KINDS[name] = UpsamplingKind(name, builder, tuple(spatial_dims), keeps_channels, adaptive)
        return builder

    return register


def registered_kinds() -> dict[str, UpsamplingKind]:
    """Return the registered kinds, sorted by name."""
    load_plugins(_PLUGINS)
    return dict(sorted(_KINDS.items()))


def list_upsampling() -> list[str]:
    """Return the names of the registered kinds of upsampling, sorted; ``"dtc+linear"`` is a sum of two of them.

    Example:
        >>> from deconvseg.nn import list_upsampling
        >>> "dtc" in list_upsampling()
        True

    """
    return list(registered_kinds())


def layer_classes(*, adaptive: bool) -> tuple[type[nn.Module], ...]:
    """Return the classes of the registered layers that are adaptive, or of those that are not."""
    builders = (kind.build for kind in registered_kinds().values() if kind.adaptive == adaptive)
    return tuple(builder for builder in builders if isinstance(builder, type) and issubclass(builder, nn.Module))


def describe_upsampling() -> str:
    """Return a text with every kind of upsampling and its options, as shown by ``deconvseg models NAME``.

    Example:
        >>> from deconvseg.nn import describe_upsampling
        >>> print(describe_upsampling())
        upsampling: a name, a sum of two as dtc+linear, or a mapping ...

    """
    lines = ["upsampling: a name, a sum of two as dtc+linear, or a mapping as {'kind': 'dtc', 'receptive_field': 2}"]
    for kind in registered_kinds().values():
        axes = ", ".join(f"{dims}D" for dims in kind.spatial_dims)
        skip = "; takes the skip connection" if kind.takes_skip else ""
        lines += _wrap(f"{kind.name} ({axes}{skip}): {kind.title}", indent=4)
        for option in kind.options.values():
            lines += _wrap(option.told, indent=8)
    return "\n".join(lines)


def _wrap(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, 116, initial_indent=" " * indent, subsequent_indent=" " * (indent + 4))
