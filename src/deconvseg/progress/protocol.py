"""Progress and messages of long-running work: one protocol for all packages.

A long-running function has an argument ``console`` and reports to it. The command line passes one that prints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

_Item = TypeVar("_Item")


class Timed(float):
    """The amount of work that is done, with the seconds that are ``left`` (None: not known yet).

    Example:
        >>> from deconvseg.progress import Timed
        >>> done = Timed(0.25, left=90.0)
        >>> done * 4, done.left
        (1.0, 90.0)

    """

    left: float | None

    def __new__(cls, done: float, left: float | None) -> Timed:
        """Attach the seconds to the amount."""
        made = super().__new__(cls, done)
        made.left = left
        return made


class Progress(Protocol):
    """A function that long-running work calls with its progress."""

    def __call__(self, done: float, text: str | None = None, /) -> None:
        """Show how much of the total is ``done`` and, if given, the ``text`` of the current step.

        A :class:`Timed` also gives the seconds that are left; otherwise the console estimates them.
        """


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
    """A console that shows nothing; a base class for consoles that show only a part.

    Example:
        >>> from deconvseg.progress import Silent
        >>> class Notes(Silent):
        ...     def say(self, text):
        ...         print("-", text)
        >>> Notes().say("planning")
        - planning

    """

    def say(self, text: str) -> None:
        """Show nothing."""

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Yield a function that shows nothing."""
        return nullcontext(show_nothing)


SILENT = Silent()


@dataclass(frozen=True)
class Quiet(Silent):
    """A console that shows the progress of another console and drops its lines of text.

    Example:
        >>> from deconvseg.progress import Lines, Quiet
        >>> console = Quiet(Lines(print))
        >>> console.say("a line that is not shown")

    """

    console: Console

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        """Yield the other console's function."""
        return self.console.track(text, total)


class Wrapping:
    """Base class of the consoles of earlier versions, which iterate over items by a function of their own."""

    wrap: Callable[[Sequence[Any], str], Iterable[Any]]


def show_nothing(done: float, text: str | None = None, /) -> None:
    """Ignore the progress."""


def each(
    items: Sequence[_Item], text: str, console: Console, name: Callable[[_Item], str] | None = None
) -> Iterator[_Item]:
    """Iterate over the items while the console shows how many are done and, by ``name``, the current one."""
    if isinstance(console, Wrapping):
        yield from console.wrap(items, text)
        return
    with console.track(text, len(items)) as progress:
        for number, item in enumerate(items):
            if name is not None:
                progress(number, name(item))
            yield item
            progress(number + 1)
