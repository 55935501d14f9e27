"""Cross-validation: one plan, a run for each fold, and out-of-fold predictions of all cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Annotated

from deconvseg.data import (
    Dataset,
    Splits,
    find_leaks,
    list_names,
    read_folds,
    read_json,
    read_splits,
    record_dataset,
    resolve_folds,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import (
    merge_evaluations,
    merge_operating_points,
    read_evaluation,
    read_operating_points,
)
from deconvseg.experiments.executor import choose_executor
from deconvseg.experiments.folds import (
    explaining_interruption,
    fold_run,
    fold_task,
    share_memory,
    threads_of_a_fold,
    train_folds,
)
from deconvseg.experiments.former import renewed
from deconvseg.experiments.holding_out import hold_out
from deconvseg.experiments.postprocessing import choose_postprocessing
from deconvseg.experiments.result import CrossValidation
from deconvseg.experiments.strata import measure_strata
from deconvseg.experiments.tasks import Executor
from deconvseg.options import OBJECT, CrossvalOptions, Option, TrainOptions, takes
from deconvseg.progress import Console, Timings, choose_console, takes_console
from deconvseg.runs import FOLDS, Run
from deconvseg.runs import describe_run as describe_weights
from deconvseg.system import hold, remove_unfinished, write_text
from deconvseg.text import dump_json, number_of
from deconvseg.training import (
    Ranks,
    changed_keys,
    check_dataset,
    check_resumable,
    check_same_plan,
    check_start,
    decide_plan,
    describe_run,
    foresee,
    forget_places,
    given_plan,
    open_data,
    record_own,
    remove_cache,
    resume_options,
    write_places,
)
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
            run, data, parts, options = _reopen(output, options, asked, console)
        chosen = choose_executor(asked.jobs, options.device, options.devices or 1) if executor is None else executor
        executor = renewed(chosen)
        if not asked.resume:
            with timings.part("planning"):
                run, data, parts = _start(output, options, asked, executor, console)
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
    tasks = {fold: fold_task(run, fold, options) for fold in range(len(parts)) if not _finished(run, fold)}
    told = f"{number_of(len(parts), 'fold')} of {number_of(len(data.cases), 'case')}, {len(tasks)} to train"
    if tasks and (seconds := foresee(run.plan, options, len(parts[0].train), len(parts[0].val)).total) is not None:
        rounds = math.ceil(len(tasks) / executor.slots)
        told += f"; each takes about {format_time(seconds)}, all together {format_time(rounds * seconds)}"
    console.say(told)
    with timings.part("folds"):
        failed = train_folds(tasks, executor, console)
    with timings.part("choice of the post-processing"):
        result = _gather(run, data, parts, failed, console)
    result.write()
    with timings.part("report"):
        describe_run(run, console)
    if not failed:
        remove_cache(run, options, console)
        forget_places(run)
    run.record_hashes(finished=not failed)
    return result


def _start(
    output: Path, options: TrainOptions, asked: CrossvalOptions, executor: Executor, console: Console
) -> tuple[Run, Dataset, tuple[Splits, ...]]:
    """Choose the folds and the plan, and create the folder."""
    if (output / FOLDS).exists():
        raise InputError(
            f"{output}: holds a cross-validation already; continue with `resume=True` or choose another "
            "folder (`output`)"
        )
    if runs := [path.parent for path in output.glob("fold_*/plan.json")]:
        raise InputError(f"{runs[0]}: holds a run already; choose another folder (`output`)")
    given = check_start(Run(output), options)
    data = open_data(options)
    check_dataset(data, options, given)
    measure = partial(measure_strata, stratify=asked.stratify, table=asked.table, root=options.dataset, console=console)
    parts = resolve_folds(data, options.splits, folds=asked.folds, strata=measure, seed=options.seed)
    for text in find_leaks(data, parts):
        console.say(f"warning: {text}")
    names = tuple(dict.fromkeys(name for part in parts for name in (*part.train, *part.val)))
    everything = Splits(names, (), parts[0].test)
    data = data.select(names)
    with threads_of_a_fold(executor, len(parts)):
        plan = decide_plan(data, everything, share_memory(options, executor, len(parts)), console)
    run = Run.create(output, plan, asked.to_config() | {"folds": len(parts)}, splits=vars(everything))
    write_places(options, run)
    record_own(run)
    run.update_manifest(**record_dataset(data, console))
    write_text(run.path / FOLDS, dump_json([vars(part) for part in parts]) + "\n")
    return run, data, parts


def _reopen(
    output: Path, options: TrainOptions, asked: CrossvalOptions, console: Console
) -> tuple[Run, Dataset, tuple[Splits, ...], TrainOptions]:
    """Reopen a cross-validation; :class:`InputError` if it, its data, its folds or its plan have changed."""
    if not (output / FOLDS).is_file():
        raise InputError(f"{output}: no cross-validation to resume ({FOLDS} is missing); start it without `resume`")
    run = Run.open(output)
    remove_unfinished(output)
    parts = tuple(
        Splits(*(tuple(entry[key]) for key in ("train", "val", "test"))) for entry in read_json(output / FOLDS)
    )
    if asked.folds not in (None, len(parts)):
        raise InputError(
            f"`resume=True`: {output} has {len(parts)} folds, but {asked.folds} were requested; omit `folds`"
        )
    for key, value in (("stratify", asked.stratify), ("table", asked.table)):
        kept = run.config.get(key)
        if value is not None and kept not in (value, PurePath(value).name):
            raise InputError(f"`resume=True`: {output} was started with `{key}={kept!r}`; omit `{key}`")
    now, options = options, resume_options(options, run)
    data = open_data(options)
    check_resumable(run, data, console)
    check_same_plan(run, given_plan(now), options, data)
    _check_same_folds(run, parts, options, data)
    for fold, part in enumerate(parts):
        own = fold_run(run, fold)
        if (own.path / "splits.json").is_file() and (own.path / "manifest.json").is_file():
            if foreign := _describe_foreign(run, fold, part):
                raise InputError(foreign)
            check_resumable(own, data, console)
    return run, data.select(run.splits["train"]), parts, options


def _check_same_folds(run: Run, parts: Sequence[Splits], options: TrainOptions, data: Dataset) -> None:
    """Compare the folds with their splits file, if there is one."""
    source = data.splits_file if options.splits is None else Path(options.splits)
    # A finished cross-validation records only the name of the file.
    if source is None or not source.is_absolute() or not source.is_file():
        return
    folds = read_folds(source, data)
    if folds is None:
        now = read_splits(source, data.names, excluded=data.excluded_names)
        same = {*now.train, *now.val} == set(run.splits["train"]) and set(now.test) == set(run.splits["test"])
    else:
        same = folds == tuple(parts)
    if not same:
        raise InputError(
            f"{source}: has other cases than when the cross-validation in {run.path} was started; choose another "
            "folder (`output`)"
        )


def _finished(run: Run, fold: int) -> bool:
    own = fold_run(run, fold)
    return (own.path / "plan.json").is_file() and own.finished


def _describe_foreign(run: Run, fold: int, part: Splits) -> str | None:
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


def _gather(
    run: Run, data: Dataset, parts: Sequence[Splits], failed: Mapping[int, str], console: Console
) -> CrossValidation:
    """Join the folds' validations; choose the post-processing if no fold is missing."""
    finished = [fold for fold in range(len(parts)) if _finished(run, fold)]
    # A training was started by hand in the fold's folder before the fold was trained.
    foreign = {fold: text for fold in finished if (text := _describe_foreign(run, fold, parts[fold]))}
    for text in foreign.values():
        console.say(f"warning: {text}")
    failed = {**failed, **foreign}
    done = [fold for fold in finished if fold not in foreign]
    if not done:
        raise DeconvsegError(
            f"every fold failed, the first: {next(iter(failed.values()))}; continue with `resume=True`"
        )
    absent = [
        f"{name}: fold {fold} did not finish"
        for fold in range(len(parts))
        if fold not in done
        for name in parts[fold].val
    ]
    found = {fold: read_evaluation(fold_run(run, fold).validation / "metrics.json") for fold in done}
    merged = merge_evaluations(list(found.values()), absent)
    _join_operating_points(run, done)
    folds = {fold: tuple(case.name for case in evaluation.cases) for fold, evaluation in found.items()}
    # Cases of a finished fold that could not be predicted or evaluated are part of its evaluation.
    failed = {fold: text for fold, text in failed.items() if fold not in done}
    hashes = {str(fold): describe_weights(fold_run(run, fold))["weights_sha256"] for fold in done}
    weights = {"choice": run.plan.recipe.weights, "sha256": hashes}
    result = CrossValidation(run.path, merged, folds, failed, weights=weights)
    if failed:
        console.say(f"post-processing is not chosen until all folds are finished: {list_names(failed)} failed")
        return result
    plan = run.plan
    cases = hold_out(found, plan, console)
    chosen = choose_postprocessing(cases, plan.structures, console=console)
    chosen = chosen.model_copy(update={"weights": tuple(hashes.values())})
    chosen.write(run.path)
    return replace(result, postprocessing=chosen)


def _join_operating_points(run: Run, folds: Sequence[int]) -> None:
    """Write the operating points of the out-of-fold predictions, unless a fold of an earlier version has none."""
    parts = [read_operating_points(fold_run(run, fold).path) for fold in folds]
    found = [part for part in parts if part is not None]
    if len(found) == len(parts):
        merge_operating_points(found).write(run.path)
