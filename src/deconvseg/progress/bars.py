"""A console for terminals: lines of text, and below them progress bars with elapsed and remaining time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from deconvseg.progress.protocol import Progress
from deconvseg.progress.remaining import TimeLeft, clock_time, percent
from deconvseg.progress.wrapping import cells, wrap

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.text import Text

_SHORTEST, _LONGEST = 8, 40
# Most lines about current steps below a bar.
_MOST_LINES = 3
_REFRESHES = 5
_STYLES = {"error": "red", "warning": "yellow"}


class Bars:
    """Shows running tasks at the bottom of a terminal, the innermost last."""

    def __init__(self, console: RichConsole, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self._works: list[_Work] = []
        self._live: Any = None
        self._lock = threading.RLock()

    def say(self, text: str) -> None:
        """Print a line above the bars, wrapped at spaces to the width of the terminal."""
        lines = "\n".join(wrap(text, self.console.width))
        print_line(lines, self.console, _STYLES.get(text.partition(":")[0]))

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Yield a function that updates a bar; the bar disappears at the end of the block."""
        work = _Work(text, total, self.clock)
        self._enter(work)
        try:
            yield work
        finally:
            self._leave(work)

    def frame(self) -> Text:
        """Return the current state of the bars."""
        from rich.text import Text

        with self._lock:
            parts = [part for work in self._works for part in work.draw(self.console.width - 1)]
        return Text("\n").join(parts)

    def _enter(self, work: _Work) -> None:
        from rich.live import Live

        with self._lock:
            self._works.append(work)
            if self._live is None:
                self._live = Live(
                    get_renderable=self.frame,
                    console=self.console,
                    refresh_per_second=_REFRESHES,
                    transient=True,
                    redirect_stdout=False,
                    vertical_overflow="crop",
                )
                self._live.start()

    def _leave(self, work: _Work) -> None:
        with self._lock:
            self._works.remove(work)
            live = self._live
            if self._works or live is None:
                return
            self._live = None
        # Stop it without the lock, because its thread may be waiting for the lock.
        live.stop()


def print_line(line: str, console: RichConsole, style: str | None = None) -> None:
    """Print a line unchanged, without markup and wrapping."""
    console.print(line, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


class _Work:
    """A task and the state of its bar."""

    def __init__(self, text: str, total: int | None, clock: Callable[[], float]) -> None:
        self.text, self.total, self.clock = text, total, clock
        self.started = clock()
        self.left = TimeLeft(self.started)
        self.done = 0.0
        self.what: str | None = None

    def __call__(self, done: float, what: str | None = None, /) -> None:
        self.done = float(done)
        if what is not None:
            self.what = what
        self.left.tell(min(1.0, done / (self.total or 1)), self.clock(), done)

    def draw(self, width: int) -> Iterator[Text]:
        """Yield the lines of the bar: the task with its progress, then its current steps."""
        from rich.text import Text

        now = self.clock()
        fraction = min(1.0, self.done / (self.total or 1))
        times = f"{clock_time(now - self.started)} elapsed"
        if fraction < 1:
            times += f"  {clock_time(self.left.at(now))} left"
        if self.total is None and not self.done:
            # The progress is unknown, or the task has just begun.
            line = f"{self.text}  {times}"
            yield from [Text(line)] if cells(line) <= width else [*map(Text, wrap(self.text, width, "")), Text(times)]
        else:
            amount = f"{self.done:.0f} of {self.total}" if self.total is not None else percent(fraction).lstrip()
            yield from self._draw_bar(fraction, f"{amount}  {times}", width)
        if self.what:
            lines = wrap(self.what, width - 2, "")
            for line in lines[:_MOST_LINES]:
                yield Text(f"  {_shorten(line, width - 2)}", style="dim")

    def _draw_bar(self, fraction: float, beside: str, width: int) -> Iterator[Text]:
        from rich.text import Text

        room = width - cells(self.text) - len(beside) - 4
        if room >= _SHORTEST:
            yield Text(f"{self.text}  ").append_text(_bar(fraction, min(_LONGEST, room))).append(f"  {beside}")
            return
        for line in wrap(self.text, width, ""):
            yield Text(_shorten(line, width))
        yield _bar(fraction, min(_LONGEST, width - len(beside) - 2)).append(f"  {beside}")


def _bar(fraction: float, length: int) -> Text:
    from rich.text import Text

    full = round(fraction * max(0, length))
    return Text("━" * full, style="green").append("─" * (max(0, length) - full), style="bright_black")


def _shorten(word: str, width: int) -> str:
    """Shorten a word that is longer than a line by its middle."""
    if cells(word) <= width:
        return word
    half = max(1, (width - 1) // 2)
    return f"{word[:half]}…{word[-half:]}"
