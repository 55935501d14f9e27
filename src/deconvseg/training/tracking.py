"""Trackers of a training: the run's own files, and those of other software."""

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
    """Follows one training, in the process that called :func:`~deconvseg.training.train`."""

    def start(self, run: Run) -> None:
        """The run starts or continues; its plan, configuration, splits and earlier metrics are available."""

    def log(self, step: int, values: Values) -> None:
        """An epoch has ended after a total of ``step`` optimiser steps; ``values`` is its row of ``metrics.jsonl``.

        Values that were not measured are None. An epoch that is repeated after a resumption is logged again.
        """

    def picture(self, name: str, png: bytes) -> None:
        """A picture was drawn, such as ``progress`` at the end, the learning curves."""

    def finish(self, status: Status) -> None:
        """The run has ended with this status; no call follows."""


class RunFiles:
    """The tracker of every run: ``metrics.jsonl``, ``metrics.csv`` and pictures in its folder."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def start(self, run: Run) -> None:
        """Do nothing: the folder exists already."""

    def log(self, step: int, values: Values) -> None:
        """Add an epoch's row."""
        self.run.append_metrics(values)

    def picture(self, name: str, png: bytes) -> None:
        """Write ``NAME.png``."""
        with atomic_write(self.run.path / f"{name}.png") as path:
            path.write_bytes(png)

    def finish(self, status: Status) -> None:
        """Do nothing: everything is written."""


class Guests:
    """The trackers of a caller as one; after its first error, which is reported, a tracker is left out.

    Errors of :class:`RunFiles` end the training, because a run cannot be resumed without its files.
    """

    def __init__(self, trackers: Sequence[Tracker], console: Console) -> None:
        self.trackers = list(trackers)
        self.console = console

    def join(self, trackers: Sequence[Tracker]) -> None:
        """Add trackers before the start."""
        self.trackers += trackers

    def start(self, run: Run) -> None:
        """Start all."""
        self._each(lambda tracker: tracker.start(run))

    def log(self, step: int, values: Values) -> None:
        """Log to all, with a copy for each."""
        self._each(lambda tracker: tracker.log(step, dict(values)))

    def picture(self, name: str, png: bytes) -> None:
        """Give all the picture."""
        self._each(lambda tracker: tracker.picture(name, png))

    def finish(self, status: Status) -> None:
        """Finish all."""
        self._each(lambda tracker: tracker.finish(status))

    @contextmanager
    def following(self, run: Run) -> Iterator[None]:
        """Start all, and call ``finish`` with the status at the end of the block."""
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
            # Trackers of other software may raise any error, which must not end the training.
            except Exception as error:  # noqa: BLE001
                self.trackers.remove(tracker)
                name = type(tracker).__name__
                self.console.say(
                    f"warning: the tracker {name} failed ({type(error).__name__}: {one_line(error)}); it is dropped"
                )
