"""Registry of losses by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from deconvseg.errors import InputError, check_choice
from deconvseg.losses.base import SegmentationLoss
from deconvseg.system import load_plugins

_Loss = TypeVar("_Loss", bound=type[SegmentationLoss])

_PLUGINS = "deconvseg.losses"
# Options that follow from the labels; a recipe cannot set them.
_OF_THE_LABELS = {"regions", "ignore_id"}
_LOSSES: dict[str, type[SegmentationLoss]] = {}


def register_loss(name: str) -> Callable[[_Loss], _Loss]:
    """Register a subclass of :class:`SegmentationLoss` under a name for ``recipe.loss``.

    For the command line, and for the processes that it starts, a package registers its losses by entry points of the
    group ``deconvseg.losses``. Raises ``ValueError`` for a name that is already registered.

    Example:
        >>> from deconvseg.losses import CrossEntropyLoss, list_losses, register_loss
        >>> @register_loss("squared_ce")
        ... class SquaredCrossEntropyLoss(CrossEntropyLoss):
        ...     def modulated(self, entropy, truth):
        ...         return entropy.square()
        >>> "squared_ce" in list_losses()
        True

    """

    def register(loss: _Loss) -> _Loss:
        if name in _LOSSES:
            raise ValueError(f"a loss named {name!r} is already registered: choose another name")
        _LOSSES[name] = loss
        return loss

    return register


def list_losses() -> list[str]:
    """Return the names of all losses, sorted.

    Example:
        >>> from deconvseg.losses import list_losses
        >>> list_losses()
        ['ce', 'cldice', 'dice', 'dice_ce', 'focal', 'hausdorff', 'tversky']

    """
    load_plugins(_PLUGINS)
    return sorted(_LOSSES)


def make_loss(name: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> SegmentationLoss:
    """Return a loss by name; :class:`InputError` for an unknown name or option, or an invalid value.

    ``defaults`` apply to options that the loss has and ``options`` does not set; regions and ``ignore_id`` can only be
    set by ``defaults``.
    """
    check_choice(name, list_losses(), "loss")
    known = _options(_LOSSES[name])
    own = known.keys() - _OF_THE_LABELS
    if unknown := sorted(options.keys() - own):
        if unknown[0] in _OF_THE_LABELS:
            raise InputError(f"loss {name}: {unknown[0]} is the plan's; leave it out")
        mine = ", ".join(sorted(own))
        raise InputError(f"loss {name} has no option {unknown[0]!r}: its options are {mine}")
    usual = {key: value for key, value in defaults.items() if key in known}
    try:
        for key, value in options.items():
            _check_type(key, value, known[key])
        return _LOSSES[name](**{**usual, **options})
    except TypeError as error:
        raise InputError(f"loss {name}: an option of {dict(options)} has the wrong type ({error})") from error


def _check_type(key: str, value: Any, default: Any) -> None:
    """Raise a `TypeError` if a default is a Boolean or a number and the value is of another kind."""
    alike = isinstance(value, int | float) and isinstance(value, bool) == isinstance(default, bool)
    if isinstance(default, int | float) and not alike:
        raise TypeError(f"{key} is not of the kind of its default, {default!r}")


def _options(loss: type[SegmentationLoss]) -> dict[str, Any]:
    """Return the defaults of a loss's options by name, including those of its base classes."""
    defaults: dict[str, Any] = {}
    for kind in loss.__mro__:
        if "__init__" in vars(kind) and issubclass(kind, SegmentationLoss):
            parameters = inspect.signature(kind.__init__).parameters.values()
            own = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
            defaults = {**{parameter.name: parameter.default for parameter in own}, **defaults}
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                break
    return defaults
