"""What ``torch.compile`` is told about this package's Python code."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def constant_to_compilers(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Have ``torch.compile`` call a function once, while it traces, and keep the result as a constant.

    For questions that it cannot trace. As ``torch.compiler.assume_constant_result``, which would import the whole
    compiler, two seconds of it, also where nothing is compiled.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
