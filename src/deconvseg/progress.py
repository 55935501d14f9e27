"""Progress and messages of long-running work: one protocol for all packages.

A long-running function has an argument ``console`` and reports to it. The command line passes one that prints.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

_Arguments = ParamSpec("_Arguments")
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Progress(Protocol):
    """A function that long-running work calls with its progress."""

    def __call__(self, done: float, text: str | None = None, /) -> None:
        """Show how much of the total is ``done`` and, if given, the ``text`` of the current step."""


class Console(Protocol):
    """The user's view of the work: lines of text and progress."""

    def say(self, text: str) -> None:
        """Show a line of text: a result, a decision or a warning."""

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Return a context manager that yields a function to show the progress of the work ``text``.

        Its argument is the number of finished items out of ``total``; without a total it is a fraction from 0 to 1.
        """


@dataclass(frozen=True)
class Silent:
    """A console that shows nothing; a base class for consoles that show only a part."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Yield a function that shows nothing."""
        return nullcontext(show_nothing)


SILENT = Silent()


@dataclass(frozen=True)
class Quiet(Silent):
    """A console that shows the progress of another console and drops its lines of text."""

    console: Console

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Yield the other console's function."""
        return self.console.track(text, total)


def show_nothing(done: float, text: str | None = None, /) -> None:
    """Ignore the progress."""


def each(items: Sequence[_Item], text: str, console: Console) -> Iterator[_Item]:
    """Iterate over the items while the console shows how many are done."""
    if isinstance(console, _Former):
        yield from console.wrap(items, text)
        return
    with console.track(text, len(items)) as progress:
        for number, item in enumerate(items, 1):
            yield item
            progress(number)


def tenths(text: str, say: Callable[[str], None]) -> Progress:
    """Return a progress function for log files: one line for each tenth of the work."""
    told = -1

    def tell(done: float, what: str | None = None, /) -> None:
        nonlocal told
        if int(done * 10) > told:
            told = int(done * 10)
            say(f"{done:4.0%}  {what or text}")

    return tell


def takes_console(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let a function with an argument ``console`` accept the former arguments too, with a deprecation warning.

    These are ``progress`` or ``track`` (a function that wraps the items, or that is called with a text and a fraction),
    ``say`` (a function of one line), and a console with the methods ``track(items, text)`` and ``meter()``.
    """

    @wraps(function)
    def call(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        given: dict[str, Any] = dict(named)
        former = {name: given.pop(name) for name in ("progress", "track", "say") if name in given}
        console: Any = given.get("console")
        if former:
            _deprecate(f"{function.__name__}({', '.join(f'{name}=' for name in former)})")
            given["console"] = _Former.of(former.get("say"), former.get("progress") or former.get("track"))
        elif hasattr(console, "meter") and not isinstance(console, _Former):
            _deprecate(f"{type(console).__name__}.meter()")
            given["console"] = _Former(console.say, console.track, console.meter)
        return function(*arguments, **given)

    return call


def _deprecate(what: str) -> None:
    text = f"{what} is going to be removed: give a console (deconvseg.progress.Console), with say(text) and track(text)"
    warnings.warn(text, DeprecationWarning, stacklevel=3)


class _Former:
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
