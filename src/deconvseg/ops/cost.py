"""Cost of operator calls: formulas next to the operators, and a listener that collects their results."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Cost:
    """Operations of a forward pass: multiply-accumulates, and other operations on single elements."""

    macs: int
    elementwise: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.elementwise + other.elementwise)

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.macs * times, self.elementwise * times)


class Listener(Protocol):
    """An object that records the calls of operators."""

    def record(self, operator: str, cost: Cost, result: object) -> None:
        """Record a call: the operator's name, its cost and its result."""
        ...


_listener: ContextVar[Listener | None] = ContextVar("cost_listener", default=None)


def is_heard(listener: Listener) -> bool:
    """Return whether this listener records calls here; it does not inside an operator, which counts as a whole."""
    return _listener.get() is listener


@contextmanager
def told_to(listener: Listener | None) -> Iterator[None]:
    """Report the cost of each operator called in a ``with`` block (in this thread or task) to a listener, if any."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(
    formula: Callable[_Arguments, Cost],
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Attach a cost formula to an operator: a function of the same arguments, called only while a listener is set.

    Operators that it calls inside are not reported, so that nothing is counted twice.
    """

    def decorate(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @functools.wraps(function)
        def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            if torch.compiler.is_compiling():
                return function(*args, **kwargs)
            listener = _listener.get()
            if listener is None:
                return function(*args, **kwargs)
            with told_to(None):
                result = function(*args, **kwargs)
            listener.record(function.__name__, formula(*args, **kwargs), result)
            return result

        return call

    return decorate


def interpolation(elements: int, axes: int, order: int = 1) -> Cost:
    """Return the cost of interpolated elements, each a weighted sum of ``order`` + 1 neighbours on every axis."""
    return Cost(macs=elements * (order + 1) ** axes if order else 0)


def positions(shape: tuple[int, ...]) -> int:
    """Return the batch size times the number of positions of an image (B, C, \\*S)."""
    return shape[0] * math.prod(shape[2:])
