"""The start of a training: checks, and the creation or reopening of its folder."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from deconvseg.data import find_leaks, measure_foreground, record_dataset, resolve_splits
from deconvseg.errors import InputError
from deconvseg.options import TrainOptions
from deconvseg.planning import Plan
from deconvseg.progress import Console, Timings
from deconvseg.runs import Run
from deconvseg.system import choose_device, hold
from deconvseg.training.cases import open_cases, open_data, prepare_run_cases
from deconvseg.training.deciding import decide_plan
from deconvseg.training.folders import open_stopped
from deconvseg.training.further import asks_for_more, go_further
from deconvseg.training.launch import check_processes, processes
from deconvseg.training.loading import choose_workers
from deconvseg.training.options import given_plan, resume_options, write_places
from deconvseg.training.preflight import check_dataset, check_selection, check_start
from deconvseg.training.resuming import check_resumable, check_same_plan, check_same_splits, record_own
from deconvseg.training.shared_memory import check_shared_memory


def prepare_run(
    output: Path, options: TrainOptions, resume: bool, console: Console, held: ExitStack, timings: Timings
) -> None:
    """Create or reopen the run folder, and prepare its cases if several processes will use them.

    ``held`` locks the folder for this process.
    """
    held.enter_context(hold(output))
    if resume:
        run = open_stopped(output)
        asked, options = options, resume_options(options, run, further=True)
        end = asks_for_more(run, options, asked)
        check_processes(run.plan, options)
        _reopen(run, options, given_plan(asked), console)
        if end is not None:
            options = go_further(run, options, end, console)
            write_places(options, run)
    else:
        with timings.part("planning"):
            run = _start(output, options, console)
    check_shared_memory(run.plan, choose_workers(options.workers, choose_device(options.device)))
    if processes(options) > 1:
        with timings.part("preparing"):
            prepare_run_cases(run, *open_cases(run, options), options, console)


def _start(output: Path, options: TrainOptions, console: Console) -> Run:
    """Check everything that can be checked quickly, then create the run folder."""
    given = check_start(Run(output), options)
    data = open_data(options)
    # Before the folds, which are balanced by the masks.
    check_dataset(data, options, given)
    strata = partial(measure_foreground, console=console)
    parts = resolve_splits(data, options.splits, fold=options.fold, seed=options.seed, strata=strata)
    if not parts.train:
        raise InputError(f"{options.dataset}: no training cases; check the splits")
    check_selection(options, given, len(parts.val))
    used = data.select([*parts.train, *parts.val])
    for text in find_leaks(data, [parts]):
        console.say(f"warning: {text}")
    data = used
    plan = decide_plan(data, parts, options, console)
    run = Run.create(output, plan, options.to_config(), splits=vars(parts))
    write_places(options, run)
    record_own(run)
    run.update_manifest(**record_dataset(data, console))
    return run


def _reopen(run: Run, options: TrainOptions, plan: Plan | None, console: Console) -> None:
    """Check that a run can be resumed: it has a completed epoch, and its data, splits and plan are unchanged."""
    if run.replaceable:
        console.say("no epoch was completed; the training starts again with the same plan and options")
    elif not run.resume_file.is_file():
        raise InputError(f"{run.resume_file}: no completed epoch to resume from; train a new run in another folder")
    data = open_data(options)
    check_resumable(run, data, console)
    check_same_splits(run, options, data)
    check_same_plan(run, plan, options, data)
    if run.threads_differ():
        console.say("warning: the number of threads has changed; the weights will not be the same bit for bit")
