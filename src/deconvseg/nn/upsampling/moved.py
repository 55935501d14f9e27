"""Upsampling options that used to be separate arguments: accepted for one more release, with a warning."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from deconvseg.nn.upsampling.choosing import choose_upsampling
from deconvseg.nn.upsampling.registry import list_upsampling

P = ParamSpec("P")
R = TypeVar("R")

# Former arguments of the networks, and the options that replace them.
MOVED_OF_DTC = {"receptive_field": "receptive_field", "dtc_init": "init", "dtc_components": "components"}
MOVED_OF_LINEAR = {"align_corners": "align_corners"}
_ATTRIBUTE = "_moved_arguments"


def accept_moved(moved: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function with an argument ``upsampling`` accept former arguments as its options, with a warning.

    ``moved`` maps the names of the former arguments to the keys of the mapping ``upsampling``.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            if not moved.keys() & kwargs.keys():
                return function(*args, **kwargs)
            current = {name: value for name, value in kwargs.items() if name not in moved}
            positional = signature.bind_partial(*args, **current).arguments
            arguments = fold_moved(wrapper, {**positional, **kwargs})
            warn_of_moved(kwargs, arguments)
            by_name: Callable[..., R] = function
            return by_name(**arguments)

        setattr(wrapper, _ATTRIBUTE, moved)
        return wrapper

    return decorate


def fold_moved(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a function with the former ones moved into ``upsampling``.

    Options that its kinds do not have are dropped, because they had no effect.
    """
    moved: Mapping[str, str] = getattr(function, _ATTRIBUTE, {})
    given = {moved[name]: value for name, value in arguments.items() if name in moved}
    folded = {name: value for name, value in arguments.items() if name not in moved}
    if not given:
        return folded
    default = inspect.signature(function).parameters["upsampling"].default
    upsampling = folded.get("upsampling", {} if default is inspect.Parameter.empty else default)
    mapping = dict(upsampling) if isinstance(upsampling, Mapping) else {"kind": upsampling}
    mapping["kind"] = given.pop("kind", mapping.get("kind"))
    chosen = choose_upsampling(mapping)
    mapping |= {option: value for option, value in given.items() if chosen.has(option)}
    folded["upsampling"] = mapping if len(mapping) > 1 else mapping["kind"]
    return folded


def warn_of_moved(given: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Warn, at the caller's caller, about arguments that are no longer arguments of the function."""
    listed = ", ".join(name for name in given if name not in arguments)
    message = f"{listed}: deprecated as arguments, give upsampling={arguments['upsampling']!r}"
    warnings.warn(message, DeprecationWarning, stacklevel=3)


def _former_kinds() -> tuple[str, ...]:
    """Return the former value of ``UPSAMPLING_KINDS``: the kinds, and their sums with DTC."""
    kinds = list_upsampling()
    return (*kinds, *(f"dtc+{kind}" for kind in kinds if kind != "dtc"))


FORMER = {
    "UPSAMPLING_KINDS": (_former_kinds, "call list_upsampling(), which gives the kinds without their sums"),
}
