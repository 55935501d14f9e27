"""What suits the place where a program runs: bars on a terminal, one line in a notebook, a log elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from deconvseg.progress.bars import Bars, print_line
from deconvseg.progress.lines import Lines
from deconvseg.progress.notebook import Notebook
from deconvseg.progress.protocol import Console, Progress, show_nothing
from deconvseg.text import escape_controls

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

Level = Literal["quiet", "usual", "verbose"]


def screen(level: Level = "usual") -> Console:
    """Return a console that shows what is done, how far it is, and how long it will still take.

    On a terminal these are lines and moving bars, written to standard error. In a notebook it is a line below the cell
    that changes. Elsewhere, as in a log file, and with ``NO_COLOR`` or ``TERM=dumb`` in the environment, every line has
    the time of day, and progress gets a line at each tenth of the way.

    ``level="quiet"`` shows warnings alone; with ``"verbose"`` a log has all steps instead of the tenths.

    Example:
        >>> from deconvseg.progress import each, screen
        >>> sum(each([1, 2, 3], "adding", screen()))
        6

    """
    return Shown(Notebook() if in_notebook() else choose_display(level), escape_controls, level)


def choose_display(level: Level = "usual", console: RichConsole | None = None) -> Bars | Lines:
    """Return bars where standard error is a terminal that moves, and lines with the time of day elsewhere."""
    if console is None:
        from rich.console import Console as RichConsole

        console = RichConsole(stderr=True, highlight=False, emoji=False)
    if shows_bars(console):
        return Bars(console)
    return Lines(lambda line: print_line(line, console), every=level == "verbose")


def shows_bars(console: RichConsole) -> bool:
    """Whether bars may move there: on a terminal, unless NO_COLOR or TERM=dumb ask for plain text."""
    try:
        terminal = os.isatty(console.file.fileno())
    except (AttributeError, OSError, ValueError):
        # A stream in memory, or a closed one.
        terminal = False
    return terminal and console.is_interactive and not os.environ.get("NO_COLOR")


def in_notebook() -> bool:
    """Whether this is a notebook's kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class Shown:
    """A console whose texts are made fit to be shown first, and of which a quiet one shows warnings alone."""

    def __init__(self, display: Console, make_fit: Callable[[str], str], level: Level = "usual") -> None:
        self.display = display
        self.make_fit = make_fit
        self.level = level

    def say(self, text: str) -> None:
        """Show a line."""
        if self.level != "quiet" or text.partition(":")[0] in ("warning", "error"):
            self.display.say(self.make_fit(text))

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Show how far the work is."""
        if self.level == "quiet":
            yield show_nothing
            return
        with self.display.track(self.make_fit(text), total) as tell:
            yield lambda done, what=None, /: tell(done, None if what is None else self.make_fit(what))
