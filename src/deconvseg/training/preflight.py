"""Checks before a training reads cases, measures or writes anything: names, options and small files."""

from pathlib import Path

from deconvseg.data import Dataset
from deconvseg.errors import InputError
from deconvseg.options import PLANNED, RunOptions, TrainOptions
from deconvseg.planning import (
    Plan,
    Request,
    check_plan,
    check_pretrained,
    match_plan,
    preview_plan,
    supervise_deeply,
)
from deconvseg.planning.precisions import explain_float32
from deconvseg.runs import Run
from deconvseg.system import choose_device, refuse_blocked
from deconvseg.training.fit import choose_precision
from deconvseg.training.launch import check_processes, check_spread, processes
from deconvseg.training.options import given_plan
from deconvseg.training.pretrained import check_fitting, check_kind, load_start, open_start
from deconvseg.training.sharing import share_of_batch
from deconvseg.training.trackers import create_trackers


def check_start(run: Run, options: TrainOptions) -> Plan | None:
    """Return the given plan; :class:`InputError` for errors that do not depend on the dataset.

    These are a folder with other contents, unknown names, options that exclude each other, an unavailable device,
    precision or number of processes, and missing or damaged files of a plan or of weights.
    """
    run.check_free()
    if options.cache is not None:
        refuse_blocked(Path(options.cache), folder=True)
    given = given_plan(options)
    create_trackers(options.track or ())
    if options.precision is not None:
        choose_precision(options.precision, choose_device(options.device))
    check_spread(options)
    if options.batch_size is not None:
        share_of_batch(options.batch_size, processes(options))
    if options.pretrained is not None:
        load_start(open_start(options.pretrained))
    return given


def check_selection(options: RunOptions, given: Plan | None, validated: int) -> None:
    """Refuse to select the weights by the validation of no cases."""
    recipe = request_of(options).to_recipe() if given is None else given.recipe
    if options.plan_changes.get("recipe.weights", recipe.weights) == "best" and not validated:
        raise InputError(
            "the best weights are selected by validation, and no case is validated here; hold out cases (`fold=0`), or "
            "take the final weights (`weights='final'`)"
        )


def check_dataset(data: Dataset, options: TrainOptions, given: Plan | None) -> None:
    """Raise :class:`InputError` for options that do not fit the dataset, without reading its images.

    If a plan is given, the headers of the images are read for their number of axes.
    """
    if given is None:
        preview_plan(data, request_of(options), options.plan_changes)
        if options.pretrained is not None and options.preset is None:
            check_kind(options.model, open_start(options.pretrained))
    else:
        check_given_plan(data, options, given)


def check_given_plan(data: Dataset, options: TrainOptions, given: Plan) -> tuple[Plan, tuple[str, ...]]:
    """Return a plan matched to a dataset, with notes; :class:`InputError` if they do not fit."""
    plan = given.with_values(options.plan_changes)
    choose_precision(plan.recipe.precision, choose_device(options.device))
    check_foreground(plan, data)
    plan, notes = match_plan(plan, data)
    plan = supervise_deeply(plan)
    check_plan(plan)
    check_processes(plan, options)
    told = explain_float32(plan.recipe.precision, choose_device(options.device))
    return plan, (*notes, *check_weights(plan, options), *([] if told is None else [told]))


def check_foreground(plan: Plan, data: Dataset) -> None:
    """Refuse a plan for separate classes if the dataset has all foreground as one, and the reverse."""
    if plan.labels.foreground_only != data.foreground:
        made, asked = ("with", "without") if plan.labels.foreground_only else ("without", "with")
        raise InputError(
            f"the plan was made {made} foreground, but this training is started {asked} it (`foreground`, or the "
            f"layout {data.layout!r} makes one class of all labels); use the same for both"
        )


def check_weights(plan: Plan, options: RunOptions) -> tuple[str, ...]:
    """Return notes about the weights of another run; :class:`InputError` if they do not fit the plan."""
    if options.pretrained is None:
        return ()
    other = open_start(options.pretrained)
    notes = check_pretrained(plan, other.plan, options.pretrained)
    check_fitting(plan, other)
    return notes


def request_of(options: RunOptions) -> Request:
    """Return the request for a new plan from the options."""
    asked = {name: getattr(options, name) for name in PLANNED if name != "memory"}
    return Request(**asked, loss=options.plan_changes.get("recipe.loss"))
