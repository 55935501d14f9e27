"""The start of a cross-validation: its folds, its plan and its folder, or the checks before it continues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath

from deconvseg.data import (
    Dataset,
    Splits,
    find_leaks,
    read_folds,
    read_json,
    read_splits,
    record_dataset,
    resolve_folds,
)
from deconvseg.errors import InputError
from deconvseg.experiments.folds import describe_foreign, fold_run, share_memory, threads_of_a_fold
from deconvseg.experiments.strata import measure_strata
from deconvseg.experiments.tasks import Executor
from deconvseg.experiments.testing import find_test_cases, has_tests, prepare_tests
from deconvseg.options import CrossvalOptions, TrainOptions
from deconvseg.progress import Console
from deconvseg.runs import FOLDS, Run
from deconvseg.system import remove_unfinished, write_text
from deconvseg.text import dump_json
from deconvseg.training import (
    check_dataset,
    check_resumable,
    check_same_plan,
    check_start,
    decide_plan,
    given_plan,
    open_data,
    record_own,
    resume_options,
    write_places,
)


def start(
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
    test = None
    if asked.test:
        # The test cases do not depend on the folds, whose balance needs the masks.
        alike = partial(resolve_folds, data, options.splits, folds=asked.folds, seed=options.seed)
        test = find_test_cases(data, alike(strata=lambda part: dict.fromkeys(part.names, "all")))
    measure = partial(measure_strata, stratify=asked.stratify, table=asked.table, root=options.dataset, console=console)
    parts = resolve_folds(data, options.splits, folds=asked.folds, strata=measure, seed=options.seed)
    for text in find_leaks(data, parts):
        console.say(f"warning: {text}")
    names = tuple(dict.fromkeys(name for part in parts for name in (*part.train, *part.val)))
    everything = Splits(names, (), parts[0].test if test is None else test)
    data = data.select(names)
    with threads_of_a_fold(executor, len(parts)):
        plan = decide_plan(data, everything, share_memory(options, executor, len(parts)), console)
    run = Run.create(output, plan, asked.to_config() | {"folds": len(parts)}, splits=vars(everything))
    write_places(options, run)
    record_own(run)
    run.update_manifest(**record_dataset(data, console))
    if test is not None:
        prepare_tests(run, test)
    write_text(run.path / FOLDS, dump_json([vars(part) for part in parts]) + "\n")
    return run, data, parts


def reopen(
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
    check_same_folds(run, parts, options, data)
    if asked.test and not has_tests(run):
        prepare_tests(run, find_test_cases(data, parts))
    for fold, part in enumerate(parts):
        own = fold_run(run, fold)
        if (own.path / "splits.json").is_file() and (own.path / "manifest.json").is_file():
            if foreign := describe_foreign(run, fold, part):
                raise InputError(foreign)
            check_resumable(own, data, console)
    return run, data.select(run.splits["train"]), parts, options


def check_same_folds(run: Run, parts: Sequence[Splits], options: TrainOptions, data: Dataset) -> None:
    """Raise :class:`InputError` if the folds differ from those of their splits file, as far as it is still there."""
    source = data.splits_file if options.splits is None else Path(options.splits)
    # A finished cross-validation records only the name of the file.
    if source is None or not source.is_absolute() or not source.is_file():
        return
    folds = read_folds(source, data)
    if folds is None:
        now = read_splits(source, data.names, excluded=data.excluded_names)
        # Test cases of the run may be declared by the layout; those of the folds are in the file.
        same = {*now.train, *now.val} == set(run.splits["train"]) and set(now.test) == set(parts[0].test)
    else:
        same = folds == tuple(parts)
    if not same:
        raise InputError(
            f"{source}: has other cases than when the cross-validation in {run.path} was started; choose another "
            "folder (`output`)"
        )
