"""Cross-validation: one plan, a run for each fold, and out-of-fold predictions of all cases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from deconvseg.data import Dataset, Splits
from deconvseg.errors import InputError
from deconvseg.experiments.executor import choose_executor
from deconvseg.experiments.folds import explaining_interruption, fold_task, is_finished, train_folds
from deconvseg.experiments.former import renewed
from deconvseg.experiments.gathering import gather
from deconvseg.experiments.result import CrossValidation
from deconvseg.experiments.starting import reopen, start
from deconvseg.experiments.tasks import Executor
from deconvseg.experiments.testing import has_tests, score_tests
from deconvseg.options import OBJECT, CrossvalOptions, Option, TrainOptions, takes
from deconvseg.progress import Console, Timings, choose_console, takes_console
from deconvseg.runs import Run
from deconvseg.system import hold
from deconvseg.text import number_of
from deconvseg.training import Ranks, describe_run, foresee, forget_places, remove_cache
from deconvseg.units import format_time


@dataclass(frozen=True, kw_only=True)
class _Arguments(CrossvalOptions):
    executor: Annotated[
        Executor | None, Option("What trains the folds; chosen by ``jobs`` if not given.", OBJECT, resume="call")
    ] = None


@takes_console
@takes(_Arguments)
def crossval(asked: _Arguments) -> CrossValidation:
    """Train a run on every fold of a dataset and return the metrics of the out-of-fold predictions of all cases.

    The folds come from a splits file that holds a list (``splits``, or the dataset's ``splits_final.json``). Otherwise
    all cases except declared test cases are divided into ``folds`` (5), balanced by foreground volume or by the column
    ``stratify`` of a ``table`` with case names (a CSV dataset is its own table). One plan, made from all these cases,
    is used for all folds. ``jobs`` folds are trained at the same time (by default one, or one on each GPU), or one
    after the other on ``devices``; folds on one device share its ``memory``.

    The folder ``output`` holds the runs ``fold_0``, …, the metrics ``crossval.json``, and ``postprocessing.json``,
    chosen by them. A fold that fails does not stop the others; with ``resume`` finished folds are kept, and the others
    continue.

    With ``test`` the test cases (of the splits file, or declared by the layout) are predicted and evaluated too, in
    ``test``: by each fold's model, and by the mean of their probabilities. ``resume`` adds them to a finished
    cross-validation. Raises :class:`~deconvseg.errors.InputError` before any training if there are none.

    Example:
        >>> from deconvseg.experiments import crossval
        >>> result = crossval("DATASET", "CV", plan="plan.json", folds=2, device="cpu", jobs=1, epochs=1)
        >>> sorted(result.folds), result.failed
        ([0, 1], {})

    """
    console = choose_console(asked.console)
    if (started := Ranks.find().size) > 1:
        raise InputError(
            f"a cross-validation is one process, but torchrun or SLURM has started {started}: start it once (SLURM: "
            "--ntasks=1), and distribute it by `jobs` or `devices`"
        )
    options, executor, output = TrainOptions.of(asked), asked.executor, Path(asked.output)
    asked = asked.absolute()
    timings = Timings()
    with explaining_interruption(output), hold(output):
        if asked.resume:
            run, data, parts, options = reopen(output, options, asked, console)
        chosen = choose_executor(asked.jobs, options.device, options.devices or 1) if executor is None else executor
        executor = renewed(chosen)
        if not asked.resume:
            with timings.part("planning"):
                run, data, parts = start(output, options, asked, executor, console)
        with run.advising():
            result = _train_folds(run, data, parts, options, executor, console, timings)
    console.say(f"took {timings}")
    return result


def _train_folds(
    run: Run,
    data: Dataset,
    parts: Sequence[Splits],
    options: TrainOptions,
    executor: Executor,
    console: Console,
    timings: Timings,
) -> CrossValidation:
    """Train the unfinished folds, and write the results of all folds."""
    tasks = {fold: fold_task(run, fold, options) for fold in range(len(parts)) if not is_finished(run, fold)}
    told = f"{number_of(len(parts), 'fold')} of {number_of(len(data.cases), 'case')}, {len(tasks)} to train"
    if tasks and (seconds := foresee(run.plan, options, len(parts[0].train), len(parts[0].val)).total) is not None:
        rounds = math.ceil(len(tasks) / executor.slots)
        told += f"; each takes about {format_time(seconds)}, all together {format_time(rounds * seconds)}"
    console.say(told)
    with timings.part("folds"):
        failed = train_folds(tasks, executor, console)
    with timings.part("choice of the post-processing"):
        result = gather(run, data, parts, failed, console)
    # The metrics are written first, because the test cases may take long.
    result.write()
    if has_tests(run):
        with timings.part("test cases"):
            test = score_tests(run, list(result.folds), len(parts), options, executor, console)
        result = replace(result, test=test)
        result.write()
    with timings.part("report"):
        describe_run(run, console)
    finished = not failed and (result.test is None or not result.test.failed)
    if finished:
        remove_cache(run, options, console)
        forget_places(run)
    run.record_hashes(finished=finished)
    return result
