"""Choose the console for the environment: bars on a terminal, one line in a notebook, a log elsewhere."""

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
    """Return a console that shows the steps, their progress and the remaining time.

    On a terminal it writes lines and progress bars to standard error. In a notebook it updates a line below the cell.
    Elsewhere (in a log file), and with ``NO_COLOR`` or ``TERM=dumb`` in the environment, every line has the time of
    day, and progress gets a line at each tenth.

    ``level="quiet"`` shows only warnings; with ``"verbose"`` a log has all steps instead of tenths.

    Example:
        >>> from deconvseg.progress import each, screen
        >>> sum(each([1, 2, 3], "adding", screen()))
        6

    """
    return Shown(Notebook() if in_notebook() else choose_display(level), escape_controls, level)


def choose_display(level: Level = "usual", console: RichConsole | None = None) -> Bars | Lines:
    """Return bars if standard error is a terminal that supports them, else lines with the time of day."""
    if console is None:
        from rich.console import Console as RichConsole

        console = RichConsole(stderr=True, highlight=False, emoji=False)
    if shows_bars(console):
        return Bars(console)
    return Lines(lambda line: print_line(line, console), every=level == "verbose")


def shows_bars(console: RichConsole) -> bool:
    """Return whether the console can show bars: on a terminal, unless NO_COLOR or TERM=dumb request plain text."""
    try:
        terminal = os.isatty(console.file.fileno())
    except (AttributeError, OSError, ValueError):
        # A stream in memory or a closed stream.
        terminal = False
    return terminal and console.is_interactive and not os.environ.get("NO_COLOR")


def in_notebook() -> bool:
    """Return whether this process is a notebook kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class Shown:
    """A console that converts its texts with ``make_fit``, and at level "quiet" shows only warnings."""

    def __init__(self, display: Console, make_fit: Callable[[str], str], level: Level = "usual") -> None:
        self.display = display
        self.make_fit = make_fit
        self.level = level

    def say(self, text: str) -> None:
        """Show a line of text."""
        if self.level != "quiet" or text.partition(":")[0] in ("warning", "error"):
            self.display.say(self.make_fit(text))

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Show the progress of the task."""
        if self.level == "quiet":
            yield show_nothing
            return
        with self.display.track(self.make_fit(text), total) as tell:
            yield lambda done, what=None, /: tell(done, None if what is None else self.make_fit(what))
