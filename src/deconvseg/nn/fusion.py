"""Conditions under which one operator may replace separate calls of several modules."""

import sys
from collections.abc import Iterable, Mapping
from functools import reduce

import torch
from torch import nn

from deconvseg.ops.torch_internals import (
    METHODS,
    OF_ONE_LAYER,
    all_modules_have_a_hook,
    calls_were_replaced,
    constant_to_compilers,
    guard_call,
    has_dispatch_mode,
    has_hook,
    is_called_as_all,
)
from deconvseg.ops.watching import why_watched

# Methods of each checked class: its own, and those of the bases that define them.
_originals: dict[type, tuple[tuple[type, str, object], ...]] = {}


def why_apart(root: nn.Module, expected: Mapping[str, tuple[type, ...]]) -> str | None:
    """Return why the modules inside ``root`` must be called one by one, or None if one operator may replace the calls.

    They must be exactly the expected modules, by path and type (a parametrisation changes the type), without hooks and
    with the methods of their classes; convolutions must be pointwise.
    """
    if why := why_calls_watched():
        return why
    modules = dict(root.named_modules())
    del modules[""]
    if modules.keys() != expected.keys():
        return f"modules were added or removed: {', '.join(sorted(modules.keys() ^ expected.keys()))}"
    for path, module in modules.items():
        if why := why_special(module, expected[path]):
            return f"{path} {why}"
        if isinstance(module, nn.Conv2d | nn.Conv3d) and not is_pointwise(module):
            return f"{path} is not a pointwise convolution"
    return None


def why_special(module: nn.Module, types: tuple[type, ...]) -> str | None:
    """Return why a module must be called, or None if it has one of these exact types, its own methods and no hooks."""
    kind, attributes = type(module), vars(module)
    if kind not in types or not attributes.keys().isdisjoint(OF_ONE_LAYER):
        return f"was replaced, compiled or parametrised ({kind.__name__})"
    if has_hook(attributes):
        return "has a hook"
    return None if has_own_methods(kind) else f"has a method that was replaced on the class {kind.__name__}"


class Fusible:
    """A layer whose call another module may replace by one operator; a base class beside ``nn.Module``."""

    @constant_to_compilers
    def why_called(self) -> str | None:
        """Return why the layer must be called, or None if it has its own methods and no hooks."""
        assert isinstance(self, nn.Module)
        return why_special(self, (type(self),))


def is_replaceable(layer: nn.Module, types: tuple[type, ...]) -> bool:
    """Return whether one operator may replace the call of a layer, as it may if the layer has one of these types.

    ``torch.compile`` can trace this function for :class:`Fusible` types.
    """
    if type(layer) not in types:
        return False
    guard_calls(layer, ("",))
    assert isinstance(layer, Fusible)
    return layer.why_called() is None


def guard_calls(root: nn.Module, paths: Iterable[str]) -> None:
    """Make ``torch.compile`` compile anew if modules inside ``root`` are replaced, or change how they are called.

    For modules whose calls an operator replaces while the compiler traces; it guards the modules that it calls itself.
    """
    if torch.compiler.is_dynamo_compiling():
        for path in paths:
            guard_call(reduce(getattr, path.split("."), root) if path else root)


@constant_to_compilers
def has_own_methods(kind: type[nn.Module]) -> bool:
    """Return whether a class has the methods that it was defined with, and the call method of ``nn.Module``."""
    if not is_called_as_all(kind):
        return False
    originals = _originals.get(kind)
    if originals is None:
        bases = kind.__mro__[: kind.__mro__.index(nn.Module)]
        defined = [(base, name, vars(base)[name]) for base in bases for name in METHODS if name in vars(base)]
        if not all(_is_defined_by(*each) for each in defined):
            return False
        inherited = [(kind, name, getattr(kind, name)) for name in METHODS if hasattr(kind, name)]
        originals = _originals[kind] = (*defined, *inherited)
    return all(getattr(base, name) is method for base, name, method in originals)


def is_watched() -> bool:
    """Return whether other code observes all calls of modules or of PyTorch's functions."""
    return why_calls_watched() is not None


@constant_to_compilers
def why_calls_watched() -> str | None:
    """Return what observes all calls of modules, of PyTorch's functions or of its operators, or None."""
    if all_modules_have_a_hook():
        return "there is a hook on all modules"
    if calls_were_replaced():
        return "the call method of modules was replaced"
    if has_dispatch_mode():
        return "a TorchDispatchMode sees each operator of PyTorch"
    return why_watched()


def is_pointwise(conv: nn.Conv2d | nn.Conv3d) -> bool:
    """Return whether a convolution maps the channels of each position separately."""
    sizes = (*conv.kernel_size, *conv.stride)
    return sizes == (1,) * len(sizes) and not any(conv.padding) and conv.groups == 1


def _is_defined_by(base: type, name: str, method: object) -> bool:
    """Return whether a method was defined in the body of the class, and not assigned later."""
    module = sys.modules.get(base.__module__)
    at_home = module is not None and getattr(method, "__globals__", None) is vars(module)
    return at_home and getattr(method, "__qualname__", None) == f"{base.__qualname__}.{name}"
