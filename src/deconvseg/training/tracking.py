"""Who follows a training by its numbers: the run's own files, and trackers of other software."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

from deconvseg.errors import InterruptionError
from deconvseg.progress import Console
from deconvseg.runs import Run
from deconvseg.system import atomic_write, one_line

Status = Literal["finished", "failed", "interrupted"]
Values = Mapping[str, float | int | None]


class Tracker(Protocol):
    """Follows one training, in the process that :func:`~deconvseg.training.train` was called in."""

    def start(self, run: Run) -> None:
        """The run begins, or goes on: its plan, configuration and splits are there, and the metrics of before."""

    def log(self, step: int, values: Values) -> None:
        """An epoch has ended after ``step`` optimiser steps in all: ``values`` is its row of ``metrics.jsonl``.

        None stands for what was not measured. An epoch that is repeated after a resumption is logged again.
        """

    def picture(self, name: str, png: bytes) -> None:
        """A picture was drawn, as ``progress`` at the end, the learning curves."""

    def finish(self, status: Status) -> None:
        """The run has ended, one way or another; nothing follows."""


class RunFiles:
    """The tracker of every run: ``metrics.jsonl``, ``metrics.csv`` and pictures in its folder."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def start(self, run: Run) -> None:
        """Everything that it needs is there already."""

    def log(self, step: int, values: Values) -> None:
        """Add an epoch's row."""
        self.run.append_metrics(values)

    def picture(self, name: str, png: bytes) -> None:
        """Write ``NAME.png``."""
        with atomic_write(self.run.path / f"{name}.png") as path:
            path.write_bytes(png)

    def finish(self, status: Status) -> None:
        """Nothing is left to write."""


class Guests:
    """Trackers of a caller, as one: the first error of each is told, it is left out from then on, and training goes on.

    A run cannot be resumed without its own files, so the errors of :class:`RunFiles` are the training's own.
    """

    def __init__(self, trackers: Sequence[Tracker], console: Console) -> None:
        self.trackers = list(trackers)
        self.console = console

    def start(self, run: Run) -> None:
        """Start all."""
        self._each(lambda tracker: tracker.start(run))

    def log(self, step: int, values: Values) -> None:
        """Log to all, each its own copy."""
        self._each(lambda tracker: tracker.log(step, dict(values)))

    def picture(self, name: str, png: bytes) -> None:
        """Give all the picture."""
        self._each(lambda tracker: tracker.picture(name, png))

    def finish(self, status: Status) -> None:
        """Finish all."""
        self._each(lambda tracker: tracker.finish(status))

    @contextmanager
    def following(self, run: Run) -> Iterator[None]:
        """Start all, and tell them at the end of the block how it has ended."""
        self.start(run)
        status: Status = "failed"
        try:
            yield
            status = "finished"
        except (InterruptionError, KeyboardInterrupt, SystemExit):
            status = "interrupted"
            raise
        finally:
            self.finish(status)

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                call(tracker)
            # Other people's software, which talks to servers: whatever it raises, the training is worth more.
            except Exception as error:  # noqa: BLE001
                self.trackers.remove(tracker)
                name = type(tracker).__name__
                self.console.say(
                    f"warning: the tracker {name} failed ({type(error).__name__}: {one_line(error)}); it is left out"
                )
