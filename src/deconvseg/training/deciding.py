"""The plan of a training: the given one, or one that is made for the dataset."""

from deconvseg.data import Dataset, Splits, describe_excluded, report_problems
from deconvseg.options import PLANNED, TrainOptions
from deconvseg.planning import (
    DataSummary,
    Plan,
    cache_folder,
    make_plan,
    plan_cropping,
    planned_seconds,
    take_fingerprint,
)
from deconvseg.progress import Console
from deconvseg.training.launch import processes, threads_of_each
from deconvseg.training.options import given_plan
from deconvseg.training.preflight import check_given_plan
from deconvseg.units import format_time


def decide_plan(data: Dataset, parts: Splits, options: TrainOptions, console: Console) -> Plan:
    """Return the given plan or a new one, with the requested values, matched to the dataset."""
    given = given_plan(options)
    if excluded := describe_excluded(data):
        console.say(excluded)
    for problem in report_problems(data, data.names):
        console.say(f"warning: {problem}")
    plan, notes = check_given_plan(data, options, given or _make(data, parts, options, console))
    if given is not None:
        notes += _describe_changes(plan, options)
        plan = _describe_data(plan, given, data, console)
    if plan.crop_to_nonzero and (given is not None or "crop_to_nonzero" in options.plan_changes):
        plan, told = _check_cropping(plan, data, console)
        notes += told
    for note in notes:
        console.say(f"note: {note}")
    for warning in plan.warnings:
        console.say(f"warning: {warning}")
    widths = plan.model.config.get("widths")
    grid = f"spacing {plan.spacing}" if plan.resize is None else f"images resized to {plan.resize}"
    console.say(
        f"plan: {plan.model.name}, {f'widths {widths}, ' if widths else ''}patch {plan.patch_size}, "
        f"batch {plan.batch_size}, {grid}, classes {', '.join(plan.output_names)}"
    )
    return plan


def _make(data: Dataset, parts: Splits, options: TrainOptions, console: Console) -> Plan:
    told = "planning: reading the training cases, timing this machine"
    if options.preset is None and options.recipe in (None, "default") and options.epochs is None:
        told += f"; then training for about {format_time(planned_seconds(options.device, options.max_seconds))}"
    console.say(told)
    return make_plan(
        data,
        parts,
        loss=options.plan_changes.get("recipe.loss"),
        values=options.plan_changes,
        device=options.device,
        seconds=options.max_seconds,
        processes=processes(options),
        threads=threads_of_each(options),
        workers=options.workers,
        cache=cache_folder(),
        console=console,
        **{name: getattr(options, name) for name in PLANNED},
    )


def _describe_changes(plan: Plan, options: TrainOptions) -> tuple[str, ...]:
    """Say that the predictions of a plan were measured before its values were replaced."""
    asked = [key for key in options.plan_changes if key.partition(".")[0] in ("batch_size", "patch_size", "model")]
    if not asked or plan.predicted is None:
        return ()
    return (f"{', '.join(asked)}: replaced in the given plan; its time and memory are not measured again",)


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
