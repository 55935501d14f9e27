"""The kinds of upsampling, by name."""

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
# The argument that gets the channels of the skip connection.
_SKIP = "skip_channels"


@dataclass(frozen=True)
class UpsamplingKind:
    """A registered kind: what makes its layers, and what :func:`register_upsampling` was told of it."""

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
    """Register a class of layers, or a function that makes one, as a kind of upsampling.

    It is then a kind everywhere: in the argument ``upsampling`` of every network, plan and preset, alone or in a sum as
    ``"name+linear"``, in :func:`~deconvseg.nn.create_upsampling`, :func:`~deconvseg.nn.upgrade_upsampling` and
    ``deconvseg models NAME``. A package makes it known to the command line, and to the processes that train folds, as
    an entry point of the group ``deconvseg.upsampling``.

    It is called with ``in_channels, out_channels, scale, spatial_dims`` (``scale`` a tuple, one factor per axis) and
    makes a module that maps (B, in_channels, \\*S) to (B, out_channels, \\*(S * scale)). Its keyword-only arguments are
    the kind's options. Each has a default and a type that JSON can hold; ``Literal`` and
    ``Annotated[..., pydantic.Field(gt=0)]`` declare choices and bounds, and the docstring's ``Args:`` describes them.
    An argument ``skip_channels`` is no option but the channels of the skip connection; the module has an attribute
    ``needs_skip = True`` then, and is called with that tensor too.

    Args:
        name: name of the kind, without "+" and ".".
        spatial_dims: numbers of spatial axes that it supports.
        keeps_channels: whether upsampling itself leaves the channels as they are, so that changing them takes a
            convolution more. The U-Net then narrows them in its own convolutions.
        adaptive: whether it learns from the image how to sample, as DTC: ``upgrade_upsampling`` leaves such layers.

    Raises ``ValueError`` for a name that is taken or has "+" or ".", and for an option without a default.

    Example::

        @register_upsampling("nearest", spatial_dims=(1, 2, 3), keeps_channels=True)
        class NearestUpsampling(nn.Module):
            \"\"\"Repeat every pixel.\"\"\"

            def __init__(self, in_channels, out_channels, scale=2, spatial_dims=3): ...

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
    """Return the kinds by name, sorted."""
    load_plugins(_PLUGINS)
    return dict(sorted(_KINDS.items()))


def list_upsampling() -> list[str]:
    """The registered kinds of upsampling, sorted; ``"dtc+linear"`` is a sum of two of them."""
    return list(registered_kinds())


def layer_classes(*, adaptive: bool) -> tuple[type[nn.Module], ...]:
    """Return the classes of registered layers, those that learn where to sample or the others."""
    builders = (kind.build for kind in registered_kinds().values() if kind.adaptive == adaptive)
    return tuple(builder for builder in builders if isinstance(builder, type) and issubclass(builder, nn.Module))


def describe_upsampling() -> str:
    """Return what ``deconvseg models NAME`` says of upsampling: every kind, its options, their values and defaults."""
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
