"""How far a piece of work is, and what there is to say about it: one protocol for every floor.

A function that takes a while has an argument ``console`` and tells it. The command line passes one that prints.
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
    """A function that a piece of work calls as it goes on."""

    def __call__(self, done: float, text: str | None = None, /) -> None:
        """Show how much of the total is ``done`` and, where there is a ``text``, what is at work."""


class Console(Protocol):
    """What a person sees of the work."""

    def say(self, text: str) -> None:
        """Show a line: something was done or decided, or is to be looked at."""

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Give a function that shows how far the work ``text`` is, for as long as the block lasts.

        Its argument counts up to ``total`` items; without a total it is a fraction, from 0 to 1.
        """


@dataclass(frozen=True)
class Silent:
    """A console that shows nothing; a base for those that show a part."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Give a function that shows nothing."""
        return nullcontext(show_nothing)


SILENT = Silent()


@dataclass(frozen=True)
class Quiet(Silent):
    """A console that shows how far another one's work is, without its lines."""

    console: Console

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Give the other console's function."""
        return self.console.track(text, total)


def show_nothing(done: float, text: str | None = None, /) -> None:
    """The progress of a work that is not shown."""


def each(items: Sequence[_Item], text: str, console: Console) -> Iterator[_Item]:
    """Go through the items while the console shows how many are done."""
    if isinstance(console, _Former):
        yield from console.wrap(items, text)
        return
    with console.track(text, len(items)) as progress:
        for number, item in enumerate(items, 1):
            yield item
            progress(number)


def tenths(text: str, say: Callable[[str], None]) -> Progress:
    """Return the progress for log files: a line for each tenth of the way."""
    told = -1

    def tell(done: float, what: str | None = None, /) -> None:
        nonlocal told
        if int(done * 10) > told:
            told = int(done * 10)
            say(f"{done:4.0%}  {what or text}")

    return tell


def takes_console(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Let a function with an argument ``console`` also take what there was before it, with a deprecation warning.

    That is ``progress`` (or ``track``: a function that wraps the items, or that is called with a text and a fraction),
    ``say`` (a function of a line), and a console with the methods ``track(items, text)`` and ``meter()``.
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
    """A console of the last version: one function wraps items, another gives a function of a text and a fraction."""

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
        """Make one of the functions that a caller gave; ``show`` is either of the two."""
        return cls(
            say or SILENT.say,
            lambda items, text: items if show is None else show(items),
            lambda: nullcontext(show or (lambda text, fraction: None)),
        )

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Give a function that tells the fraction."""
        with self.meter() as tell:
            yield lambda done, what=None, /: tell(what or text, done / (total or 1))
