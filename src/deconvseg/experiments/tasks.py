"""What an executor runs: calls that any process on any computer can make, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Protocol

import torch

from deconvseg.errors import DeconvsegError, InterruptionError
from deconvseg.progress import Console, Progress
from deconvseg.system import one_line


@dataclass(frozen=True)
class Task:
    """A call of a function by its name.

    ``function`` is ``"package.module:name"``; it takes the ``arguments``, which JSON can hold, and ``console``, and
    returns what JSON can hold, or None where its results are files. A task that was ended may be run again: it goes on
    where it stopped, or begins anew. ``key`` names it among others; lines that it says are shown with its key.
    """

    key: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def run(self, console: Console) -> Outcome:
        """Make the call here; an error is its outcome, an interruption by the user is raised."""
        module, _, name = self.function.partition(":")
        try:
            return Outcome(self, getattr(import_module(module), name)(**self.arguments, console=self.console(console)))
        except InterruptionError:
            raise
        # Also what PyTorch raises where memory does not suffice: the next task may still fit.
        except (DeconvsegError, MemoryError, OSError, RuntimeError) as error:
            return Outcome(self, error=error)

    def console(self, console: Console) -> Console:
        """Return a console that shows the key before every line; without a key, the console itself."""
        return _Labelled(console, self.key) if self.key else console

    def to_json(self) -> str:
        """Return the task as one line of JSON, for another process."""
        return json.dumps({**asdict(self), "arguments": dict(self.arguments)})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return the task of :meth:`to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Outcome:
    """What became of a task: its function's ``value``, or the ``error`` that ended it."""

    task: Task
    value: Any = None
    error: Exception | None = None

    @property
    def problem(self) -> str | None:
        """The error in one line; None where there is none."""
        return None if self.error is None else one_line(self.error)


@dataclass(frozen=True)
class Share:
    """What one task has while others run: a number of CPU threads, and a device that ``together`` tasks share."""

    threads: int
    together: int


class Executor(Protocol):
    """Runs tasks, of which ``slots`` run at once. To write one, subclass this and define ``slots`` and :meth:`run`."""

    @property
    def slots(self) -> int:
        """How many tasks run at once."""

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        """Run the tasks and yield the outcome of each as soon as it has ended; closing the generator ends the others.

        A task that fails ends no other one. The death of a worker is the :class:`~deconvseg.errors.DeconvsegError` of
        its task, which says how it ended. Callers run a task again by another call.
        """

    def share(self, tasks: int) -> Share:
        """Return what one of so many tasks has: by default its part of this computer, on one device with the others."""
        return Share(max(1, torch.get_num_threads() // self.slots), min(self.slots, tasks))


class _Labelled:
    """The console of one task among several."""

    def __init__(self, console: Console, key: str) -> None:
        self.console, self.key = console, key

    def say(self, text: str) -> None:
        self.console.say(f"{self.key}: {text}")

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        return self.console.track(f"{self.key}: {text}", total)
