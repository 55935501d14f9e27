"""Registry of networks by name."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size, fit_stages
from deconvseg.models.network import Network
from deconvseg.nn.upsampling import fold_moved, warn_of_moved
from deconvseg.system import load_plugins

Builder = TypeVar("Builder", bound=Callable[..., Network])

_PLUGINS = "deconvseg.models"
_BUILDERS: dict[str, Callable[..., Network]] = {}


def register_model(name: str) -> Callable[[Builder], Builder]:
    """Register a :class:`~deconvseg.models.Network` class, or a function that returns one, under a name.

    For the command line, and for the processes that train folds, a package registers its networks by entry points of
    the group ``deconvseg.models``. Raises ``ValueError`` for a name that is already registered.

    Example:
        >>> from torch import nn
        >>> from deconvseg.models import Network, list_models, register_model
        >>> @register_model("pointwise")
        ... class Pointwise(Network):
        ...     def __init__(self, in_channels, out_channels, spatial_dims=2):
        ...         super().__init__(dict(locals()), size_multiple=(1,) * spatial_dims)
        ...         self.head = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        ...
        ...     def forward(self, x):
        ...         return self.head(x)
        >>> "pointwise" in list_models()
        True

    """

    def register(builder: Builder) -> Builder:
        if name in _BUILDERS:
            raise ValueError(f"a model named {name!r} is already registered: choose another name")
        _BUILDERS[name] = builder
        return builder

    return register


def list_models() -> list[str]:
    """Return the names of the registered models, sorted.

    Example:
        >>> from deconvseg.models import list_models
        >>> {"deconver", "nnunet", "unet"} <= set(list_models())
        True

    """
    load_plugins(_PLUGINS)
    return sorted(_BUILDERS)


def describe_model(name: str) -> str:
    """Return the documentation of a registered model: a summary, its arguments and shapes.

    Example:
        >>> from deconvseg.models import describe_model
        >>> print(describe_model("unet"))
        Plain U-Net with any upsampling...

    """
    check_choice(name, list_models(), "model")
    return inspect.getdoc(_BUILDERS[name]) or ""


def model_name(network: Network) -> str:
    """Return the registered name of a network's class; :class:`InputError` for an unregistered class.

    Example:
        >>> from deconvseg.models import UNet, model_name
        >>> model_name(UNet(1, 2, spatial_dims=2, widths=(4, 8)))
        'unet'

    """
    for name, builder in _BUILDERS.items():
        if builder is type(network):
            return name
    raise InputError(f"{type(network).__name__} is not registered: decorate the class with register_model")


def model_path(name: str) -> str:
    """Return the dotted path of a registered model's class or function, as configurations of other tools name it.

    Raises :class:`~deconvseg.errors.InputError` for one that cannot be imported, because a script or a function
    defines it.

    Example:
        >>> from deconvseg.models import model_path
        >>> model_path("deconver"), model_path("unet")
        ('deconvseg.Deconver', 'deconvseg.models.UNet')

    """
    check_choice(name, list_models(), "model")
    builder = _BUILDERS[name]
    module, inner = builder.__module__, builder.__qualname__
    if module == "__main__" or "<locals>" in inner:
        raise InputError(
            f"model {name!r} is defined in {module}.{inner}, which cannot be imported: put it into a module"
        )
    for shorter in ("deconvseg", "deconvseg.models"):
        if getattr(import_module(shorter), inner, None) is builder:
            return f"{shorter}.{inner}"
    return f"{module}.{inner}"


def list_arguments(name: str) -> list[str]:
    """Return the names of the constructor arguments of a registered model.

    Example:
        >>> from deconvseg.models import list_arguments
        >>> list_arguments("segresnet")
        ['in_channels', 'out_channels', 'spatial_dims', 'init_filters', 'depths', 'decoder_depths', 'upsampling']

    """
    check_choice(name, list_models(), "model")
    return list(inspect.signature(_BUILDERS[name]).parameters)


def fit_model(name: str, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
    """Yield sizes of a registered model fitted to a grid and a patch size, narrowest first (`Network.fitted`).

    Example:
        >>> from deconvseg.models import Grid, fit_model
        >>> every = (True, True)
        >>> grid = Grid("cpu", sizes=(50.0, 60.0), whole=False, strides=((1, 1), (2, 2)), reaches=(every, every))
        >>> [name for name, arguments in fit_model("deconver", grid, patch=(48, 64))]
        ['width 8', 'width 16', 'width 32', 'width 48', 'width 64']

    """
    check_choice(name, list_models(), "model")
    builder = _BUILDERS[name]
    try:
        if inspect.isclass(builder) and issubclass(builder, Network):
            yield from builder.fitted(grid, patch)
        else:
            yield from fit_stages(builder, grid, patch)
    except InputError as error:
        raise InputError(f"model {name!r} {error}") from error


def preset_arguments(name: str, preset: str, variant: str | None = None) -> dict[str, Any]:
    """Return the constructor arguments of a registered model in a preset of ``deconvseg.catalog.PRESETS``.

    ``variant`` names one of the preset's variants of the model, if its paper has several. Raises
    :class:`~deconvseg.errors.InputError` for an unknown name, preset or variant, and for a model that the preset does
    not contain.

    Example:
        >>> from deconvseg.models import preset_arguments
        >>> preset_arguments("deconver", "isles22")
        {'in_channels': 2, 'out_channels': 1, 'spatial_dims': 3, 'widths': (64, 128, 256, 512)}

    """
    check_choice(name, list_models(), "model")
    check_choice(preset, PRESETS, f"model {name!r}: preset")
    networks = PRESETS[preset].networks
    if name not in networks:
        raise InputError(f"preset {preset!r} has no {name!r}: choose from its {', '.join(networks)}, or give arguments")
    arguments = PRESETS[preset].arguments(name)
    if variant is None:
        return arguments
    variants = {key: value for key, value in PRESETS[preset].variants.items() if value.model == name}
    check_choice(variant, variants, f"model {name!r}, preset {preset!r}: variant")
    return {**arguments, **variants[variant].arguments}


def create_model(name: str, preset: str | None = None, *, variant: str | None = None, **overrides: Any) -> Network:
    """Create a network by name, from a preset's configuration, from arguments, or from both.

    ``preset`` names a configuration of the papers, and ``variant`` one of its variants of the model, such as ``"nnU-Net
    with DTC"`` (see :func:`preset_arguments`); they define only the architecture. ``overrides`` are constructor
    arguments, which take precedence. ``create_model(name, **network.config)`` rebuilds a network. Raises
    :class:`~deconvseg.errors.InputError` for an unknown name, preset or argument, and for a value of the wrong type.

    Example:
        >>> import torch
        >>> from deconvseg.models import create_model
        >>> network = create_model("unet", in_channels=1, out_channels=2, spatial_dims=2, widths=(4, 8))
        >>> network(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
        >>> type(create_model("unet", **network.config)).__name__
        'UNet'

    """
    check_choice(name, list_models(), "model")
    config = dict(overrides)
    if preset is not None:
        config = {**preset_arguments(name, preset, variant), **overrides}
    elif variant is not None:
        raise InputError(f"variant={variant!r}: a variant belongs to a preset: name the preset too")
    current = current_arguments(name, config)
    if config.keys() - current.keys():
        warn_of_moved(config, current)
    check_arguments(name, current)
    return _BUILDERS[name](**current)


def current_arguments(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return constructor arguments of a registered model, possibly of an older plan, under their current names.

    Example:
        >>> from deconvseg.models import current_arguments
        >>> current_arguments("unet", {"upsampling": "dtc", "receptive_field": 4})
        {'upsampling': {'kind': 'dtc', 'receptive_field': 4}}

    """
    check_choice(name, list_models(), "model")
    return fold_moved(_constructor(_BUILDERS[name]), config)


def check_arguments(name: str, config: Mapping[str, Any]) -> None:
    """Raise :class:`~deconvseg.errors.InputError` for arguments that a registered model lacks, and for wrong types.

    Whether they suit each other is not asked: :func:`create_model` says that.
    """
    check_choice(name, list_models(), "model")
    builder = _BUILDERS[name]
    parameters = inspect.signature(builder).parameters
    types = get_type_hints(_constructor(builder))
    for argument, value in config.items():
        check_choice(argument, parameters, f"model {name!r}: argument")
        try:
            TypeAdapter(types[argument], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            expected = (
                inspect.formatannotation(parameters[argument].annotation)
                .replace("collections.abc.", "")
                .replace("typing.", "")
            )
            raise InputError(f"model {name!r}: argument {argument}={value!r}: give {expected}") from error
    missing = [key for key, value in parameters.items() if value.default is value.empty and key not in config]
    if missing:
        raise InputError(f"model {name!r} needs {', '.join(missing)}: give them, or name a preset")


def _constructor(builder: Callable[..., Network]) -> Callable[..., Any]:
    constructor: Callable[..., Any] = builder.__init__ if inspect.isclass(builder) else builder
    return constructor
