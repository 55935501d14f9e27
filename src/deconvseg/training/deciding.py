"""The plan of a training: the given one, or one that is made for the dataset."""

from deconvseg.data import Dataset, Splits, report_problems
from deconvseg.errors import InputError
from deconvseg.options import PLANNED, TrainOptions
from deconvseg.planning import (
    DataSummary,
    Plan,
    cache_folder,
    check_plan,
    check_pretrained,
    make_plan,
    match_plan,
    plan_cropping,
    planned_seconds,
    supervise_deeply,
    take_fingerprint,
)
from deconvseg.progress import Console
from deconvseg.runs import Run
from deconvseg.training.launch import check_processes, processes, threads_of_each
from deconvseg.training.options import given_plan
from deconvseg.units import format_time


def decide_plan(data: Dataset, parts: Splits, options: TrainOptions, console: Console) -> Plan:
    """Return the given plan or a new one, with the requested values, matched to the dataset."""
    given = given_plan(options)
    for problem in report_problems(data, data.names):
        console.say(f"warning: {problem}")
    plan = (given or _make(data, parts, options, console)).with_values(options.plan_changes)
    if plan.labels.foreground_only != options.foreground:
        made, asked = ("with", "without") if plan.labels.foreground_only else ("without", "with")
        raise InputError(
            f"the plan was made {made} foreground, but this training is started {asked} it; say the same for both"
        )
    plan, notes = match_plan(plan, data)
    if given is not None:
        plan = _describe_data(plan, given, data, console)
    plan = supervise_deeply(plan)
    check_plan(plan)
    check_processes(plan, options)
    if options.pretrained is not None:
        notes += check_pretrained(plan, Run.open(options.pretrained).plan, options.pretrained)
    if plan.crop_to_nonzero and (given is not None or "crop_to_nonzero" in options.plan_changes):
        plan, told = _check_cropping(plan, data, console)
        notes += told
    for note in notes:
        console.say(f"note: {note}")
    for warning in plan.warnings:
        console.say(f"warning: {warning}")
    widths = plan.model.config.get("widths")
    console.say(
        f"plan: {plan.model.name}, {f'widths {widths}, ' if widths else ''}patch {plan.patch_size}, "
        f"batch {plan.batch_size}, spacing {plan.spacing}, classes {', '.join(plan.output_names)}"
    )
    return plan


def _make(data: Dataset, parts: Splits, options: TrainOptions, console: Console) -> Plan:
    told = "planning: reading the training cases, timing this machine"
    if options.preset is None and options.recipe == "default" and options.epochs is None:
        told += f"; then training for about {format_time(planned_seconds(options.device, options.max_seconds))}"
    console.say(told)
    return make_plan(
        data,
        parts,
        loss=options.plan_changes.get("recipe.loss"),
        device=options.device,
        seconds=options.max_seconds,
        processes=processes(options),
        threads=threads_of_each(options),
        workers=options.workers,
        cache=cache_folder(),
        console=console,
        **{name: getattr(options, name) for name in PLANNED},
    )


def _describe_data(plan: Plan, given: Plan, data: Dataset, console: Console) -> Plan:
    """Return a given plan with the figures of its training cases, unless it has them.

    Prediction uses them for the orientation of arrays and to report scans that differ from the training scans.
    """
    known = plan.data is not None and plan.data.appearance is not None and plan.dataset == data.root.name
    if known and plan.channels == given.channels:
        return plan
    return plan.model_copy(
        update={"data": DataSummary.of(take_fingerprint(data, cache=cache_folder(), console=console))}
    )


def _check_cropping(plan: Plan, data: Dataset, console: Console) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan without cropping, and a message, if a mask of these cases reaches outside the box."""
    cropped, reason = plan_cropping(take_fingerprint(data, cache=cache_folder(), console=console))
    if cropped:
        return plan, ()
    update = {
        "crop_to_nonzero": False,
        "reasons": {**plan.reasons, "crop_to_nonzero": reason},
        "chosen": {**plan.chosen, "crop_to_nonzero": False},
    }
    return plan.model_copy(update=update), (f"no cropping to the non-zero box: {reason}",)
