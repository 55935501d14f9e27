"""A console for logs: lines with the time of day, and progress at limited intervals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from deconvseg.progress.protocol import Progress
from deconvseg.progress.remaining import TimeLeft, clock_time, percent

# Shortest and longest time in seconds between two lines about the same task.
SOONEST, LATEST = 5.0, 60.0


class Lines:
    """Writes every line with the time of day before it.

    A task that takes longer than a few seconds gets a line at each tenth, but at most one per ``soonest`` seconds and
    at least one per ``latest`` seconds, with the elapsed and remaining time. With ``every`` every step gets a line.

    Example:
        >>> from datetime import datetime
        >>> from deconvseg.progress import Lines
        >>> console = Lines(print, time_of_day=lambda: datetime(2026, 1, 2, 9, 30))
        >>> console.say("validation: mean Dice 0.888")
        09:30:00 validation: mean Dice 0.888

    """

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        every: bool = False,
        soonest: float = SOONEST,
        latest: float = LATEST,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], datetime] = datetime.now,
        stamped: bool = True,
    ) -> None:
        self.write = write
        self.every = every
        self.soonest, self.latest = soonest, latest
        self.clock = clock
        self.time_of_day = time_of_day
        self.stamped = stamped

    def say(self, text: str) -> None:
        """Write a line."""
        self.write(f"{self.time_of_day():%H:%M:%S} {text}" if self.stamped else text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        """Yield a function that writes a line when one is due; lines also appear without calls for a long time."""
        work = _Work(self, text, total)
        ended = threading.Event()
        threading.Thread(target=_remind, args=(work, ended), name="progress", daemon=True).start()
        try:
            yield work
        finally:
            ended.set()


def _remind(work: _Work, ended: threading.Event) -> None:
    while not ended.wait(max(0.05, work.silence)):
        work.write_if_due()


class _Work:
    """A task and the time of its last line."""

    def __init__(self, console: Lines, text: str, total: int | None) -> None:
        self.console, self.text, self.total = console, text, total
        self.started = self.last = console.clock()
        self.left = TimeLeft(self.started)
        self.done, self.what = 0.0, None
        self.tenth = 0
        self.lock = threading.Lock()

    what: str | None

    @property
    def silence(self) -> float:
        """Return the seconds until a line is due at the latest."""
        return self.last + self.console.latest - self.console.clock()

    def __call__(self, done: float, what: str | None = None, /) -> None:
        now = self.console.clock()
        with self.lock:
            fraction = done / (self.total or 1)
            self.done, self.what = done, what if what is not None else self.what
            self.left.tell(min(fraction, 1.0), now, done)
            tenth = int(fraction * 10 + 1e-9)
            if now - self.last >= self.console.soonest and (tenth > self.tenth or self.console.every):
                self._write(now)
                self.tenth = tenth
        self.write_if_due()

    def write_if_due(self) -> None:
        """Write a line if the last one is older than ``latest`` seconds."""
        now = self.console.clock()
        with self.lock:
            if now - self.last >= self.console.latest:
                self._write(now)
                self.tenth = int(self.done / (self.total or 1) * 10 + 1e-9)

    def _write(self, now: float) -> None:
        self.last = now
        self.console.say(f"{self._describe()}; {clock_time(now - self.started)} elapsed{self._time_left(now)}")

    def _describe(self) -> str:
        if self.total is not None:
            how_far = f"{self.done:.0f} of {self.total}"
            return f"{self.text}: {how_far}" if self.what is None else f"{self.text}: {how_far}, {self.what}"
        begun = f"{self.text}: {self.what}" if self.what else self.text
        return f"{percent(self.done)}  {begun}" if self.done else begun

    def _time_left(self, now: float) -> str:
        if self.done >= (self.total or 1):
            return ""
        left = self.left.at(now)
        return ", time left not known yet" if left is None else f", {clock_time(left)} left"
