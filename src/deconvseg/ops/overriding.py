"""Operators called with other than plain tensors: subclasses of ``Tensor``, and proxies while ``torch.fx`` traces."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, fx
from torch.overrides import handle_torch_function, has_torch_function

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_PLAIN = (Tensor, torch.nn.Parameter)
# What an operator is usually called with: nothing to look into.
_ORDINARY = frozenset({*_PLAIN, torch.Size, tuple, list, int, float, bool, str, type(None)})


def is_symbolic(value: object) -> bool:
    """Return whether a value is a proxy of ``torch.fx``, which has neither a shape nor a device to branch on."""
    return isinstance(value, fx.Proxy)


def is_plain(tensor: Tensor) -> bool:
    """Return whether kernels may read a tensor: it may be of a subclass, but not of one that computes itself.

    Those (FakeTensor, DTensor) have a ``__torch_dispatch__``.
    """
    kind = type(tensor)
    return kind in _PLAIN or kind.__torch_dispatch__ is Tensor.__torch_dispatch__


def overridable(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Hand an operator's call over to ``__torch_function__`` of its arguments, as PyTorch's own functions do.

    So ``torch.fx.symbolic_trace`` records the call as one node, and a subclass such as MONAI's ``MetaTensor`` gives its
    type and metadata to the result. The operator itself gets plain tensors, which its kernels take.
    """

    @functools.wraps(function)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        if torch.compiler.is_dynamo_compiling():
            return function(*args, **kwargs)
        others = [value for value in (*args, *kwargs.values()) if type(value) not in _ORDINARY]
        return _call_with_others(call, function, others, args, kwargs) if others else function(*args, **kwargs)

    return call


def _call_with_others(
    call: Callable[..., _Result], function: Callable[..., _Result], others: list[Any], args: Any, kwargs: Any
) -> _Result:
    overriding = tuple(value for value in others if _overrides(value))
    if overriding and has_torch_function(overriding):
        result: _Result = handle_torch_function(call, overriding, *args, **kwargs)
        return result
    plain_kwargs = {name: _as_plain(value) for name, value in kwargs.items()}
    return function(*map(_as_plain, args), **plain_kwargs)


def _overrides(value: object) -> bool:
    # That of a parameter does nothing.
    disabled = torch.nn.Parameter.__torch_function__
    return getattr(type(value), "__torch_function__", disabled) is not disabled


def _as_plain(value: Any) -> Any:
    special = isinstance(value, Tensor) and type(value) not in _PLAIN and is_plain(value)
    return value.as_subclass(Tensor) if special else value
