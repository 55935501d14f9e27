"""Operator calls with tensor subclasses, and with proxies while ``torch.fx`` traces."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, fx
from torch.overrides import handle_torch_function, has_torch_function

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_PLAIN = (Tensor, torch.nn.Parameter)
# Types of usual arguments, which need no further check.
_ORDINARY = frozenset({*_PLAIN, torch.Size, tuple, list, int, float, bool, str, type(None)})


def is_symbolic(value: object) -> bool:
    """Return whether a value is a ``torch.fx`` proxy, which has no shape or device to branch on."""
    return isinstance(value, fx.Proxy)


def is_plain(tensor: Tensor) -> bool:
    """Return whether kernels may read a tensor: a plain one, or a subclass without a ``__torch_dispatch__`` of its own.

    Subclasses such as FakeTensor and DTensor have one and compute their operators themselves.
    """
    kind = type(tensor)
    return kind in _PLAIN or kind.__torch_dispatch__ is Tensor.__torch_dispatch__


def overridable(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Dispatch an operator's call to the ``__torch_function__`` of its arguments, as PyTorch's own functions do.

    ``torch.fx.symbolic_trace`` therefore records the call as one node, and a subclass such as MONAI's ``MetaTensor``
    passes its type and metadata on to the result. The operator itself receives plain tensors.
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
    # The `__torch_function__` of a parameter is disabled.
    disabled = torch.nn.Parameter.__torch_function__
    return getattr(type(value), "__torch_function__", disabled) is not disabled


def _as_plain(value: Any) -> Any:
    special = isinstance(value, Tensor) and type(value) not in _PLAIN and is_plain(value)
    return value.as_subclass(Tensor) if special else value
