"""Support for the console arguments of earlier versions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from deconvseg.progress.choosing import choose_console
from deconvseg.progress.protocol import SILENT, Progress, Wrapping

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def takes_console(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let a function with an argument ``console`` accept all that :func:`choose_console` does, and former arguments.

    The former arguments, which give a deprecation warning, are ``progress`` or ``track`` (a function that wraps the
    items, or that is called with a text and a fraction), ``say`` (a function of one line), and a console with the
    methods ``track(items, text)`` and ``meter()``.
    """

    @wraps(function)
    def call(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        given: dict[str, Any] = dict(named)
        # Today's argument `track` of a training is names of trackers.
        former = {name: given.pop(name) for name in ("progress", "track", "say") if callable(given.get(name))}
        console: Any = given.get("console")
        if former:
            _deprecate(f"{function.__name__}({', '.join(f'{name}=' for name in former)})")
            given["console"] = _Former.of(former.get("say"), former.get("progress") or former.get("track"))
        elif hasattr(console, "meter") and not isinstance(console, _Former):
            _deprecate(f"{type(console).__name__}.meter()")
            given["console"] = _Former(console.say, console.track, console.meter)
        elif "console" in given:
            given["console"] = choose_console(console)
        return function(*arguments, **given)

    return call


def tenths(text: str, say: Callable[[str], None]) -> Progress:
    """Return a progress function that prints a line for each tenth; :class:`~deconvseg.progress.Lines` replaces it."""
    warnings.warn("tenths() is going to be removed: use deconvseg.progress.Lines", DeprecationWarning, stacklevel=2)
    told = -1

    def tell(done: float, what: str | None = None, /) -> None:
        nonlocal told
        if int(done * 10) > told:
            told = int(done * 10)
            say(f"{done:4.0%}  {what or text}")

    return tell


def _deprecate(what: str) -> None:
    text = f"{what} is going to be removed: give a console (deconvseg.progress.Console), with say(text) and track(text)"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


class _Former(Wrapping):
    """A console of the former interface: ``wrap`` wraps items, ``meter`` gives a function of a text and a fraction."""

    def __init__(
        self,
        say: Callable[[str], None],
        wrap: Callable[[Sequence[Any], str], Iterable[Any]],
        meter: Callable[[], AbstractContextManager[Callable[[str, float], None]]],
    ) -> None:
        self.say = say
        self.wrap = wrap
        self.meter = meter

    @classmethod
    def of(cls, say: Callable[[str], None] | None, show: Callable[..., Any] | None) -> _Former:
        """Return a console from the caller's functions; ``show`` either wraps items or takes a text and a fraction."""
        return cls(
            say or SILENT.say,
            lambda items, text: items if show is None else show(items),
            lambda: nullcontext(show or (lambda text, fraction: None)),
        )

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Yield a function that reports the fraction."""
        with self.meter() as tell:
            yield lambda done, what=None, /: tell(what or text, done / (total or 1))
