"""Durations of the parts of a task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deconvseg.units import format_time


class Timings:
    """The seconds of each part, in the order in which the parts began.

    Example:
        >>> from deconvseg.progress import Timings
        >>> seconds = iter([0, 0, 72, 72, 972, 972])
        >>> timings = Timings(lambda: next(seconds))
        >>> for part in ("planning", "training"):
        ...     with timings.part(part):
        ...         pass
        >>> print(timings)
        16 min: planning 72 s, training 15 min

    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started = clock()
        self.seconds: dict[str, float] = {}
        self.at_work: str | None = None

    @property
    def total(self) -> float:
        """The seconds since this object was created."""
        return self.clock() - self.started

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the duration of the block to a part; if the block fails, ``at_work`` keeps naming the part."""
        before, self.at_work = self.at_work, name
        began = self.clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - began
        self.at_work = before

    def __str__(self) -> str:
        """Return the total and the parts of a second or more, as ``16 min: planning 71 s, training 15 min``."""
        parts = [f"{name} {format_time(seconds)}" for name, seconds in self.seconds.items() if seconds >= 1]
        return format_time(self.total) + (f": {', '.join(parts)}" if parts else "")
