"""The whole way from a dataset to a finished run folder."""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from torch import manual_seed

from deconvseg.data import (
    Dataset,
    PreparedCase,
    Splits,
    describe_absent_class,
    find_leaks,
    open_dataset,
    prepare_cases,
    record_dataset,
    resolve_splits,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import evaluate
from deconvseg.inference import Predictor, predict_cases
from deconvseg.models import create_model
from deconvseg.options import OBJECT, Option, TrainArguments, TrainOptions, takes
from deconvseg.planning import Plan
from deconvseg.progress import Console, Quiet, Silent, takes_console
from deconvseg.runs import Run
from deconvseg.system import choose_device, hold
from deconvseg.training.case_warnings import warn_of_padding
from deconvseg.training.comparing import compare_with_training
from deconvseg.training.deciding import decide_plan
from deconvseg.training.describing import describe_run
from deconvseg.training.fit import choose_precision, fit
from deconvseg.training.folders import cache_of, open_stopped, remove_cache, using_cache
from deconvseg.training.launch import check_processes, launch, processes
from deconvseg.training.loading import choose_workers
from deconvseg.training.options import forget_places, given_plan, resume_options, write_places
from deconvseg.training.pretrained import load_pretrained
from deconvseg.training.ranks import Ranks
from deconvseg.training.resuming import check_resumable, check_same_plan, check_same_splits, record_own
from deconvseg.training.shared_memory import check_shared_memory
from deconvseg.training.tracking import Guests, RunFiles, Tracker


@dataclass(frozen=True, kw_only=True)
class _Arguments(TrainArguments):
    trackers: Annotated[
        Sequence[Tracker], Option("What also gets the numbers of every epoch; see Tracker.", OBJECT, resume="call")
    ] = ()


@takes_console
@takes(_Arguments)
def train(asked: _Arguments) -> Run:
    """Train a network on a dataset and return the finished run.

    Plans (unless ``plan`` is given), prepares, trains, predicts the validation cases, evaluates them and writes the
    report, all in the folder ``output``. ``max_seconds`` bounds training with its validations, as ``epochs`` do, if
    they end first. Preprocessed cases lie in the run's folder while it trains, or stay in ``cache``.

    The plan's batch is that of all ``devices`` together. Where torchrun or SLURM has started several processes, each
    calls this function with the same arguments: the first one plans, prepares and writes, and all return the run.

    After every epoch each of the ``trackers`` gets the numbers that ``metrics.jsonl`` gets; one that fails is told and
    left out. Of several processes they are in the one that calls.

    With ``resume`` the run in ``output`` goes on after its last completed epoch, with its own options; without
    ``max_seconds`` its weights are then, on a CPU with as many threads, those of an uninterrupted run, bit for bit.
    """
    ranks = Ranks.find()
    console = asked.console if asked.console is not None and ranks.leads else Silent()
    guests = Guests(asked.trackers if ranks.leads else (), console)
    options, output, resume = TrainOptions.of(asked), Path(asked.output), asked.resume
    with ExitStack() as held:
        with ranks.connected(choose_device(options.device)), ExitStack() as cached:
            ranks.lead(partial(_prepare, output, options, resume, console, held))
            run = Run.open(output)
            options = resume_options(options, run) if resume else options
            if ranks.leads:
                cached.enter_context(using_cache(cache_of(run, options)))
            # A run that was stopped before its first epoch was completed begins anew.
            resume = resume and run.resume_file.is_file()
            held.enter_context(guests.following(run))
            if ranks.size == 1 and processes(options) > 1:
                launch(run, options, resume, console, guests)
            else:
                fit_run(run, options, ranks, resume, console, guests)
        if ranks.leads:
            with run.advising():
                _finish(run, options, console, guests)
    return run


def _finish(run: Run, options: TrainOptions, console: Console, guests: Guests) -> None:
    """Predict and evaluate the validation cases, write the report, and tidy up."""
    problems = _validate(run, *_cases(run, options), options, console)
    describe_run(run, console, guests)
    remove_cache(run, options, console)
    forget_places(run)
    run.record_hashes(finished=True)
    if problems:
        raise DeconvsegError(
            f"trained, but {len(problems)} validation cases failed, first: {problems[0]}; then go on with `resume=True`"
        )


def _prepare(output: Path, options: TrainOptions, resume: bool, console: Console, held: ExitStack) -> None:
    """Make the run folder or open it again, and prepare its cases where several processes will want them.

    ``held`` keeps the folder for this process from now on.
    """
    held.enter_context(hold(output))
    if resume:
        run = open_stopped(output)
        asked, options = options, resume_options(options, run)
        check_processes(run.plan, options)
        _reopen(run, options, given_plan(asked), console)
    else:
        run = _start(output, options, console)
    check_shared_memory(run.plan, choose_workers(options.workers, choose_device(options.device)))
    if processes(options) > 1:
        _prepared_cases(run, *_cases(run, options), options, console)


def _start(output: Path, options: TrainOptions, console: Console) -> Run:
    """Check everything that can be checked at once, then make the run folder."""
    data = open_dataset(options.dataset, foreground=options.foreground, group_by=options.group_by)
    parts = resolve_splits(data, options.splits, fold=options.fold, seed=options.seed)
    if not parts.train:
        raise InputError(f"{options.dataset}: no training cases; check the splits")
    for text in find_leaks(data, [parts]):
        console.say(f"warning: {text}")
    choose_precision(options.precision, choose_device(options.device))
    if options.pretrained is not None:
        Run.open(options.pretrained).load_weights()
    data = data.select([*parts.train, *parts.val])
    plan = decide_plan(data, parts, options, console)
    run = Run.create(output, plan, options.to_config(), splits=vars(parts))
    write_places(options, run)
    record_own(run)
    run.update_manifest(**record_dataset(data, console))
    return run


def _cases(run: Run, options: TrainOptions) -> tuple[Dataset, Splits]:
    """Return the run's cases, those that train and those that choose."""
    parts = Splits(**run.splits)
    data = open_dataset(options.dataset, foreground=options.foreground, group_by=options.group_by)
    return data.select([*parts.train, *parts.val]), parts


def _reopen(run: Run, options: TrainOptions, plan: Plan | None, console: Console) -> None:
    """Check that a run can go on: with a completed epoch, and with the data, splits and plan that it began with."""
    if run.replaceable:
        console.say("no epoch was completed before; the training begins anew, with the same plan and options")
    elif not run.resume_file.is_file():
        raise InputError(f"{run.resume_file}: no completed epoch to resume from; train anew in another folder")
    data = open_dataset(options.dataset, foreground=options.foreground, group_by=options.group_by)
    check_resumable(run, data, console)
    check_same_splits(run, options, data)
    check_same_plan(run, plan, options, data)
    if run.threads_differ():
        console.say("warning: another number of threads than before; the weights will not be bit for bit the same")


def _prepared_cases(
    run: Run, data: Dataset, parts: Splits, options: TrainOptions, console: Console
) -> dict[str, list[PreparedCase]]:
    plan = run.plan
    return {
        part: prepare_cases(
            data.select(names),
            cache_of(run, options),
            spacing=plan.spacing,
            normalisations=plan.normalisations,
            encoding=plan.labels.to_encoding(),
            patch_size=plan.patch_size,
            workers=choose_workers(options.workers, choose_device(options.device)),
            text=f"preparing {part} cases",
            console=console,
        )
        for part, names in (("train", parts.train), ("val", parts.val))
    }


def _absent_classes(plan: Plan, cases: Sequence[PreparedCase]) -> list[str]:
    """Return a sentence for each class of the plan that no training mask has on the plan's grid."""
    taught = {label for case in cases for label, _ in case.classes}
    absent = [index for index in range(1, len(plan.labels.values)) if index not in taught]
    return [
        describe_absent_class(plan.labels.names[index], plan.labels.values[index], "the training masks")
        for index in absent
    ]


def fit_run(run: Run, options: TrainOptions, ranks: Ranks, resume: bool, console: Console, tracker: Tracker) -> None:
    """Train the network of a run whose folder is there, as one of the processes that do."""
    plan = run.plan
    data, parts = _cases(run, options)
    cases = _prepared_cases(run, data, parts, options, console)
    for text in (*_absent_classes(plan, cases["train"]), *warn_of_padding(plan, cases["train"])):
        if not resume and text not in plan.warnings:
            console.say(f"warning: {text}")
    device = choose_device(options.device)
    manual_seed(options.seed)
    network = create_model(plan.model.name, **plan.model.config)
    if options.pretrained is not None and not resume:
        console.say(load_pretrained(network, Run.open(options.pretrained)))
    parameters = sum(p.numel() for p in network.parameters())
    console.say(
        f"training {parameters / 1e6:.2f} M parameters on {f'{ranks.size} x ' if ranks.size > 1 else ''}{device}: "
        f"{len(parts.train)} cases, {len(parts.val)} to validate"
    )
    with run.advising(), console.track("training") as progress:
        fit(
            run,
            network,
            cases["train"],
            cases["val"],
            seed=options.seed,
            device=device,
            precision=options.precision,
            workers=options.workers,
            max_epochs=options.max_epochs(plan),
            max_seconds=options.max_seconds,
            resume=resume,
            progress=progress,
            trackers=(RunFiles(run), tracker),
            ranks=ranks,
            strategy=options.strategy or "ddp",
        )


def _validate(run: Run, data: Dataset, parts: Splits, options: TrainOptions, console: Console) -> list[str]:
    """Predict the validation cases with the final weights and evaluate them; return what failed."""
    if not parts.val:
        return []
    shutil.rmtree(run.validation, ignore_errors=True)
    cases = data.select(parts.val).cases
    prediction = predict_cases(
        Predictor([run], device=choose_device(options.device)),
        cases,
        run.validation,
        load=data.load_image,
        console=Quiet(console),
    )
    if not prediction.written:
        raise DeconvsegError(
            f"trained, but no validation case could be predicted, first: {prediction.problems[0]}; then go on with "
            "`resume=True`"
        )
    result = evaluate(
        options.dataset,
        run.validation,
        run.validation / "metrics.json",
        run=run.path,
        splits=run.path / "splits.json",
        split="val",
        images={case.name: case.images for case in cases},
        console=console,
    )
    console.say(f"validation: {result.describe()}")
    if told := compare_with_training(run.metrics, result, run.plan):
        console.say(told)
    for warning in result.warnings:
        console.say(f"warning: {warning}")
    return [*prediction.problems, *result.problems]
