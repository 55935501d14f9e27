"""Tasks of an executor, which any process on any computer can run, and their outcomes."""

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

    ``function`` is ``"package.module:name"``; it takes the ``arguments``, which are JSON values, and ``console``, and
    returns a JSON value, or None if its results are files. A task that was ended may be run again: it continues
    where it stopped, or starts again. ``key`` names it among others and is shown before its lines.

    Example:
        >>> from deconvseg.experiments import Serial, Task
        >>> task = Task("a", "math:sqrt")
        >>> task.key
        'a'

    """

    key: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def run(self, console: Console) -> Outcome:
        """Call the function in this process; an error is its outcome, an interruption by the user is raised."""
        module, _, name = self.function.partition(":")
        try:
            return Outcome(self, getattr(import_module(module), name)(**self.arguments, console=self.console(console)))
        except InterruptionError:
            raise
        # This includes PyTorch's errors for a lack of memory: the next task may still fit.
        except (DeconvsegError, MemoryError, OSError, RuntimeError) as error:
            return Outcome(self, error=error)

    def console(self, console: Console) -> Console:
        """Return a console that shows the key before every line, or the console itself without a key."""
        return _Labelled(console, self.key) if self.key else console

    def to_json(self) -> str:
        """Return the task as one line of JSON, for another process."""
        return json.dumps({**asdict(self), "arguments": dict(self.arguments)})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return the task from the result of :meth:`to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task: its function's ``value``, or the ``error`` that ended it."""

    task: Task
    value: Any = None
    error: Exception | None = None

    @property
    def problem(self) -> str | None:
        """The error in one line; None if there is none."""
        return None if self.error is None else one_line(self.error)


@dataclass(frozen=True)
class Share:
    """One task's share of the computer: a number of CPU threads, and a device that ``together`` tasks share."""

    threads: int
    together: int


class Executor(Protocol):
    """Runs tasks, ``slots`` at a time. Subclasses define ``slots`` and :meth:`run`."""

    @property
    def slots(self) -> int:
        """The number of tasks that run at a time."""

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        """Run the tasks and yield the outcome of each as soon as it has ended; closing the generator ends the others.

        A failing task does not affect the others. The death of a worker is a :class:`~deconvseg.errors.DeconvsegError`
        of its task that says how it ended. Callers repeat a task by another call.
        """

    def share(self, tasks: int) -> Share:
        """Return the share of each of this many tasks: by default a part of this computer, on a common device."""
        return Share(max(1, torch.get_num_threads() // self.slots), min(self.slots, tasks))


class _Labelled:
    """The console of one task among several."""

    def __init__(self, console: Console, key: str) -> None:
        self.console, self.key = console, key

    def say(self, text: str) -> None:
        self.console.say(f"{self.key}: {text}")

    def track(self, text: str, total: int | None = None) -> AbstractContextManager[Progress]:
        return self.console.track(f"{self.key}: {text}", total)
