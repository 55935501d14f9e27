"""What a call of an operator costs: formulas beside the operators, and the listener that collects them."""

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
    """Work of a forward pass: multiply-accumulates, and elementary operations on single elements that are none."""

    macs: int
    elementwise: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.macs + other.macs, self.elementwise + other.elementwise)

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.macs * times, self.elementwise * times)


class Listener(Protocol):
    """Something that is told about the calls of operators."""

    def record(self, operator: str, cost: Cost, result: object) -> None:
        """Take note of a call and of what it returned."""
        ...


_listener: ContextVar[Listener | None] = ContextVar("cost_listener", default=None)


def is_heard(listener: Listener) -> bool:
    """Return whether this listener hears what is called here: not inside an operator, which is told about as a whole."""
    return _listener.get() is listener


@contextmanager
def told_to(listener: Listener | None) -> Iterator[None]:
    """Pass to a listener, if any, the cost of each operator called in a ``with`` block, in this thread or task."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(
    formula: Callable[_Arguments, Cost],
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Give an operator its cost: a function of the same arguments, called only while somebody listens.

    What the operator calls inside is then not told, so that nothing is counted twice.
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
    """Cost of interpolated elements: the neighbours that each is a weighted sum of, ``order`` + 1 on every axis."""
    return Cost(macs=elements * (order + 1) ** axes if order else 0)


def positions(shape: tuple[int, ...]) -> int:
    """Samples times positions of an image (B, C, \\*S)."""
    return shape[0] * math.prod(shape[2:])
