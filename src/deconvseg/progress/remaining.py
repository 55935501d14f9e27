"""Estimation of the remaining time of a task."""

from __future__ import annotations

from collections import deque

from deconvseg.progress.protocol import Timed

# The speed is measured over the last half of the elapsed time, and at least over this many seconds.
_SHARE, _SECONDS = 0.5, 20.0
# A speed measured over less time or progress is not reliable.
_LEAST_SECONDS, _LEAST_DONE = 1.0, 0.002
_MOST_SAMPLES = 512
UNKNOWN = "–:––"


class TimeLeft:
    """Estimates the remaining seconds of a task from its progress over time.

    The estimate is exact at a constant speed. It adapts to a changed speed within half of the elapsed time, and stays
    constant, instead of falling to zero, while no progress is reported.

    Example:
        >>> from deconvseg.progress import TimeLeft
        >>> left = TimeLeft(start=0.0)
        >>> left.tell(0.25, now=30.0)
        >>> left.at(30.0)
        90.0

    """

    def __init__(self, start: float, done: float = 0.0) -> None:
        self._samples = deque([(start, done)])
        self._first = start
        self._tells = 0
        self._told: tuple[Timed, float] | None = None

    def tell(self, done: float, now: float, amount: float = 0.0) -> None:
        """Record that the fraction ``done`` is finished.

        An ``amount`` that is a :class:`Timed` gives the remaining seconds; if it does not know them, they are not
        estimated either.
        """
        self._told = (amount, now) if isinstance(amount, Timed) else None
        last_time, last = self._samples[-1]
        if done < last:
            # The task has restarted, for example with smaller windows after a lack of memory.
            self._samples = deque([(now, done)])
            self._first, self._tells = now, 0
        elif done > last and now > last_time:
            self._samples.append((now, done))
            self._tells += 1
            if len(self._samples) > _MOST_SAMPLES:
                # Keep every second sample, including the first and the last.
                self._samples = deque(list(self._samples)[::-2][::-1])

    def at(self, now: float) -> float | None:
        """Return the remaining seconds at time ``now``; None if they are not known yet."""
        if self._told is not None:
            amount, then = self._told
            return None if amount.left is None else max(0.0, amount.left - (now - then))
        time, done = self._samples[-1]
        horizon = max(_SECONDS, _SHARE * (time - self._first))
        before, had = next((one for one in reversed(self._samples) if one[0] <= time - horizon), self._samples[0])
        if time - before < _LEAST_SECONDS or done - had < _LEAST_DONE:
            return None
        usual = (time - self._first) / self._tells
        return max(0.0, (1 - done) * (time - before) / (done - had) - min(now - time, usual))


def percent(done: float) -> str:
    """Return a fraction as a percentage, which is 100 % only at the end.

    Example:
        >>> from deconvseg.progress.remaining import percent
        >>> percent(0.347), percent(0.999), percent(1.0)
        (' 34%', ' 99%', '100%')

    """
    return f"{int(100 * done + 1e-6):3}%"


def clock_time(seconds: float | None) -> str:
    """Format a duration like a clock; ``–:––`` if it is not known.

    Example:
        >>> from deconvseg.progress import clock_time
        >>> clock_time(7), clock_time(3723), clock_time(None)
        ('0:07', '1:02:03', '–:––')

    """
    if seconds is None:
        return UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
