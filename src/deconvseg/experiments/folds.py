"""The folds of a cross-validation as tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import torch

from deconvseg.errors import InterruptionError
from deconvseg.experiments.tasks import Executor, Task
from deconvseg.options import PLANNED, RunOptions, TrainOptions, declared_options
from deconvseg.progress import Console
from deconvseg.runs import FOLDS, Run
from deconvseg.system import choose_device, plannable_memory
from deconvseg.training import train


def fold_run(run: Run, fold: int) -> Run:
    """Return the folder of one fold's run, which may not exist yet."""
    return Run(run.path / f"fold_{fold}")


def fold_task(run: Run, fold: int, options: TrainOptions) -> Task:
    """Return the task that trains or continues a fold."""
    own = {name for name, option, _ in declared_options(RunOptions) if option.resume != "contents"}
    arguments = {
        **{name: getattr(options, name) for name in own.difference(PLANNED)},
        "dataset": options.dataset,
        "output": str(fold_run(run, fold).path),
        # One cache for all folds: every case is preprocessed once.
        "cache": options.cache or str(run.cache),
        "plan": str(run.path / "plan.json"),
        "splits": str(run.path / FOLDS),
        "fold": fold,
    }
    return Task(f"fold {fold}", f"{__name__}:train_fold", arguments)


def train_fold(*, console: Console, **arguments: Any) -> None:
    """Train the run in ``output``; a run that has completed an epoch continues."""
    train(**resumed_where_started(arguments), console=console)


def resumed_where_started(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of :func:`~deconvseg.train` for a fold that may have completed an epoch."""
    if not Run(arguments["output"]).resume_file.is_file():
        return dict(arguments)
    # All other arguments are stored in its folder.
    fixed = {name for name, option, _ in declared_options(RunOptions) if option.resume == "same"}
    return {name: value for name, value in arguments.items() if name not in fixed} | {"resume": True}


def train_folds(tasks: Mapping[int, Task], executor: Executor, console: Console) -> dict[int, str]:
    """Train the folds and return the reasons of failures, by fold; a failing fold does not stop the others."""
    folds = {task.key: fold for fold, task in tasks.items()}
    problems: dict[int, str] = {}
    try:
        with closing(executor.run(list(tasks.values()), console)) as outcomes:
            for outcome in outcomes:
                if outcome.problem is not None:
                    problems[folds[outcome.task.key]] = outcome.problem
                    console.say(f"{outcome.task.key}: failed: {outcome.problem}")
    except KeyboardInterrupt:
        raise InterruptionError("interrupted; completed epochs are kept, go on with `resume=True`") from None
    return problems


def share_memory(options: TrainOptions, executor: Executor, folds: int) -> TrainOptions:
    """Let the planner give each fold its share of the memory if several are trained on one device at the same time."""
    together = executor.share(folds).together
    if together == 1 or options.plan is not None:
        return options
    memory = plannable_memory(choose_device(options.device)) if options.memory is None else options.memory
    return replace(options, memory=memory // together)


@contextmanager
def threads_of_a_fold(executor: Executor, folds: int) -> Iterator[None]:
    """Let the planner time this computer with the number of threads of a fold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(executor.share(folds).threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
