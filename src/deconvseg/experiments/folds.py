"""The folds of a cross-validation as tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deconvseg.data import Splits
from deconvseg.errors import InterruptionError
from deconvseg.experiments.tasks import Executor, Task
from deconvseg.options import PLANNED, RunOptions, TrainOptions, declared_options
from deconvseg.progress import Console, Progress, Timed
from deconvseg.runs import FOLDS, Run
from deconvseg.system import choose_device, plannable_memory
from deconvseg.training import changed_keys, train


def fold_run(run: Run, fold: int) -> Run:
    """Return the folder of one fold's run, which may not exist yet."""
    return Run(run.path / f"fold_{fold}")


def is_finished(run: Run, fold: int) -> bool:
    """Return whether a fold is trained and evaluated."""
    own = fold_run(run, fold)
    return (own.path / "plan.json").is_file() and own.finished


def describe_foreign(run: Run, fold: int, part: Splits) -> str | None:
    """Describe how the run in a fold's folder differs from that fold; None if it does not."""
    own = fold_run(run, fold)
    if {key: tuple(names) for key, names in own.splits.items()} != vars(part):
        what = "cases"
    elif (own.path / "plan.json").is_file() and changed_keys(run.plan, own.plan):
        what = "values in its plan"
    else:
        return None
    return (
        f"{own.path}: holds a run with other {what} than fold {fold} of the cross-validation; move it away and "
        "continue with `resume=True`"
    )


def fold_task(run: Run, fold: int, options: TrainOptions) -> Task:
    """Return the task that trains or continues a fold."""
    own = {name for name, option, _ in declared_options(RunOptions) if option.resume != "contents" and not option.key}
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
    fixed = {name for name, option, _ in declared_options(RunOptions) if option.resume in ("same", "further")}
    return {name: value for name, value in arguments.items() if name not in fixed} | {"resume": True}


def train_folds(tasks: Mapping[int, Task], executor: Executor, console: Console) -> dict[int, str]:
    """Train the folds and return the reasons of failures, by fold; a failing fold does not stop the others."""
    folds = {task.key: fold for fold, task in tasks.items()}
    problems: dict[int, str] = {}
    try:
        with (
            console.track("folds of the cross-validation", len(tasks)) as progress,
            closing(executor.run(list(tasks.values()), overall := _Overall(console, progress, len(tasks)))) as outcomes,
        ):
            for outcome in outcomes:
                overall.count()
                if outcome.problem is not None:
                    problems[folds[outcome.task.key]] = outcome.problem
                    console.say(f"{outcome.task.key}: failed: {outcome.problem}")
    except KeyboardInterrupt:
        raise InterruptionError("interrupted; completed epochs are kept, continue with `resume=True`") from None
    return problems


class _Overall:
    """The console of sequential tasks, which adds the remaining time of all tasks to the progress of each."""

    def __init__(
        self, console: Console, progress: Progress, tasks: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console, self.progress, self.tasks, self.clock = console, progress, tasks, clock
        self.done = 0
        self.began = clock()

    def count(self) -> None:
        """Record that a task has ended."""
        self.done += 1
        self.began = self.clock()
        self.progress(self.done)

    def say(self, text: str) -> None:
        self.console.say(text)

    @contextmanager
    def track(self, text: str, total: int | None = None) -> Iterator[Progress]:
        with self.console.track(text, total) as tell:

            def tell_both(done: float, what: str | None = None, /) -> None:
                tell(done, what)
                left = done.left if isinstance(done, Timed) else None
                if left is not None:
                    # Tasks that have not started are expected to take as long as this one.
                    others = self.tasks - self.done - 1
                    self.progress(Timed(self.done, left + others * (self.clock() - self.began + left)))

            yield tell_both


@contextmanager
def explaining_interruption(output: Path) -> Iterator[None]:
    """Say at Ctrl-C what is kept of a cross-validation."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        kept = "nothing was written; start it again in the same way"
        if (output / FOLDS).is_file():
            kept = f"the plan and the finished folds are kept in {output}; continue with `resume=True`"
        raise InterruptionError(f"interrupted; {kept}") from interruption


def share_memory(options: TrainOptions, executor: Executor, folds: int) -> TrainOptions:
    """Make the planner divide the memory if several folds are trained on one device in parallel."""
    together = executor.share(folds).together
    if together == 1 or options.plan is not None:
        return options
    memory = plannable_memory(choose_device(options.device)) if options.memory is None else options.memory
    return replace(options, memory=memory // together)


@contextmanager
def threads_of_a_fold(executor: Executor, folds: int) -> Iterator[None]:
    """Make the planner time this computer with the number of threads of a fold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(executor.share(folds).threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
