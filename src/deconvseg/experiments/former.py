"""Executors of the last version, which ran folds only."""

import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.errors import DeconvsegError
from deconvseg.experiments.folds import resumed_where_started
from deconvseg.experiments.tasks import Executor, Outcome, Task
from deconvseg.progress import Console


@dataclass(frozen=True)
class FoldTask:
    """One fold to train, with the arguments of :func:`~deconvseg.training.train`."""

    fold: int
    arguments: Mapping[str, Any]


class _Former(Executor):
    """An executor whose ``run`` takes the tasks of all folds and returns the reasons of failures, by fold."""

    slots = 1

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def run(self, tasks: Sequence[Task], console: Console) -> Generator[Outcome, None, None]:
        """Train the folds, and yield their outcomes at the end."""
        folds = {task.arguments["fold"]: task for task in tasks}
        made = [FoldTask(fold, resumed_where_started(task.arguments)) for fold, task in folds.items()]
        problems: Mapping[int, str] = self.executor.run(made, console)
        for fold, task in folds.items():
            yield Outcome(task, error=DeconvsegError(problems[fold]) if fold in problems else None)


def renewed(executor: Any) -> Executor:
    """Return an executor; one of the last version, which has no ``slots``, is wrapped with a deprecation warning."""
    if hasattr(executor, "slots"):
        known: Executor = executor
        return known
    name = type(executor).__name__
    warnings.warn(
        f"{name}.run(tasks) returns problems by fold, which is going to be removed: see deconvseg.experiments.Executor",
        DeprecationWarning,
        stacklevel=3,
    )
    return _Former(executor)
