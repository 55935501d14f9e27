"""A console for notebooks: lines of text, and one changing line for the running task."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from deconvseg.progress.protocol import Progress
from deconvseg.progress.remaining import TimeLeft, clock_time, percent

# Seconds between two updates of the line.
_PAUSE = 0.5


class Notebook:
    """Writes to a stream in which a carriage return replaces the last line, such as the output of a notebook cell."""

    def __init__(self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self.clock = clock
        self._shown = ""
        self._written = -_PAUSE

    def say(self, text: str) -> None:
        """Write a line above the changing line."""
        self._replace("")
        self._write(f"{text}\n")

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Yield a function that updates the line; the line disappears at the end of the block."""
        started = self.clock()
        remaining = TimeLeft(started)
        at_work = text

        def tell(done: float, what: str | None = None, /) -> None:
            nonlocal at_work
            now = self.clock()
            remaining.tell(min(1.0, done / (total or 1)), now, done)
            at_work = at_work if what is None else f"{text}: {what}"
            if now - self._written >= _PAUSE:
                self._written = now
                amount = percent(done) if total is None else f"{done:.0f} of {total}"
                left = "" if done >= (total or 1) else f"  {clock_time(remaining.at(now))} left"
                self._replace(f"{amount}  {clock_time(now - started)} elapsed{left}  {at_work}")

        try:
            yield tell
        finally:
            self._replace("")

    def _replace(self, text: str) -> None:
        if text or self._shown:
            self._write(f"\r{text.ljust(len(self._shown))}" + ("" if text else "\r"))
        self._shown = text

    def _write(self, text: str) -> None:
        stream = self.stream or sys.stdout
        stream.write(text)
        stream.flush()
