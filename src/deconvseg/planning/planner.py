"""Make a plan for a dataset, a recipe and the machine, with a reason for each choice."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from deconvseg.catalog import PRESETS
from deconvseg.data import Dataset, Splits
from deconvseg.errors import InputError
from deconvseg.losses import LossSpec
from deconvseg.models import DeviceKind
from deconvseg.nn.upsampling import Upsampling
from deconvseg.planning.candidates import Space
from deconvseg.planning.checking import check_plan
from deconvseg.planning.choices import (
    plan_cropping,
    plan_mirroring,
    plan_rotation,
    plan_sampling,
)
from deconvseg.planning.drafting import Draft, assemble, draft_plan, preset_config
from deconvseg.planning.fingerprint import take_fingerprint
from deconvseg.planning.forecast import forecast, validation_warnings, warnings_of
from deconvseg.planning.measuring import TIMING, Measure, StepMeter, telling
from deconvseg.planning.parts import DataSummary
from deconvseg.planning.patch import choose_slices
from deconvseg.planning.precisions import describe_precision
from deconvseg.planning.preprocessing import choose_preprocessing
from deconvseg.planning.presets import measure_preset
from deconvseg.planning.preview import preview_plan
from deconvseg.planning.recipes import Recipe
from deconvseg.planning.request import Request
from deconvseg.planning.schema import Plan
from deconvseg.planning.search import STEP_SHARE, Budget, Found, search
from deconvseg.planning.validation import VALIDATION_SHARE, ValidationCost, plan_validation
from deconvseg.progress import SILENT, Console, choose_console, takes_console
from deconvseg.system import choose_device, plannable_memory
from deconvseg.text import number_of
from deconvseg.units import format_time

# The default time of a training.
_DEFAULT_SECONDS: dict[DeviceKind, float] = {"cpu": 15 * 60.0, "gpu": 60 * 60.0}
_EPOCHS_WANTED = 20
_FEWEST_STEPS = 20
# Limits of the steps per epoch; the lower one keeps averages over an epoch of a short training meaningful.
_STEPS_OF_AN_EPOCH = (5, 250)


def planned_seconds(device: str, seconds: float | None) -> float:
    """Return the time that a training is planned for: ``seconds`` if given, else the default of the device."""
    return seconds or _DEFAULT_SECONDS["cpu" if choose_device(device) == "cpu" else "gpu"]


@takes_console
def make_plan(
    dataset: Dataset,
    splits: Splits,
    *,
    model: str = "deconver",
    preset: str | None = None,
    variant: str | None = None,
    recipe: str | None = None,
    loss: LossSpec | None = None,
    device: str = "auto",
    seconds: float | None = None,
    memory: int | None = None,
    dims: int | None = None,
    upsampling: Upsampling | None = None,
    width: int | None = None,
    patch_size: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    values: Mapping[str, Any] | None = None,
    processes: int = 1,
    threads: int | None = None,
    workers: int | None = None,
    cache: Path | None = None,
    measure: Measure | None = None,
    console: Console | bool | None = SILENT,
) -> Plan:
    """Plan the training of a network on a dataset from its training and validation cases.

    A ``preset`` (and one of its variants) fixes the network, patch and batch to those of a paper, and the ``recipe``,
    if none is given, with its epochs. Otherwise they are chosen from the data and from measurements on this machine,
    for ``seconds`` of training (by default 15 minutes on a CPU, an hour on a GPU) and ``memory`` bytes (by default
    90 % of the free memory). ``loss`` replaces the loss of the recipe, also in the measurements. ``dims=2`` uses 2D
    slices of volumes, ``dims=3`` 3D patches.

    If ``upsampling``, the ``width`` of the network's first stage, ``patch_size`` (one number for all axes, or one for
    each) or ``batch_size`` are given, they are fixed and the others are chosen accordingly. ``learning_rate`` replaces
    that of the recipe. Finally ``values`` replace other values by their dotted paths (:meth:`Plan.with_values`).
    Impossible values and combinations raise an :class:`InputError` before anything is measured.

    For several training ``processes``, one per device, the share of the batch of one process is measured, with
    ``threads`` CPU threads (by default those of this process); on a CPU the processes share the memory. At most
    ``workers`` threads read the cases, and a ``cache`` folder stores their fingerprint. ``measure`` replaces the
    process that measures candidates.

    Example:
        >>> from deconvseg.data import open_dataset, resolve_splits
        >>> from deconvseg.planning import StepCost, make_plan
        >>> dataset = open_dataset("DATASET")
        >>> cost = StepCost(seconds=0.1, base=0, memory=2**30, inference=2**20, parameters=1000)
        >>> plan = make_plan(
        ...     dataset,
        ...     resolve_splits(dataset, "splits.json", fold=0),
        ...     model="unet",
        ...     device="cpu",
        ...     seconds=60,
        ...     measure=lambda *candidate, **options: cost,  # by default, steps are measured on this machine
        ... )
        >>> plan.model.name, plan.spatial_dims, plan.labels.names
        ('unet', 2, ('background', 'label 255'))

    """
    asked = Request(
        *(model, preset, variant, recipe, loss, dims, upsampling, width, patch_size, batch_size, learning_rate)
    )
    preview_plan(dataset, asked, values or {})
    named, console = _timed(asked.to_recipe(), values or {}), choose_console(console)
    device = choose_device(device)
    kind: DeviceKind = "cpu" if device == "cpu" else "gpu"
    room, host = _rooms(device, memory, processes)
    with ExitStack() as stack:
        # Start it first, so that it loads its libraries while the cases are read.
        meter = measure or stack.enter_context(StepMeter(device, room, threads, named))
        learnt = dataset.select([*splits.train, *splits.val])
        fingerprint = take_fingerprint(learnt, workers=workers, memory=host, cache=cache, console=console)
        draft = draft_plan(learnt, fingerprint, named, splits, preset)
        if preset is not None and PRESETS[preset].regions is not None:
            console.say(f"regions: {draft.reasons['regions']}")
        choose_preprocessing(draft, preset, values or {})
        timed = telling(meter, stack.enter_context(console.track(TIMING)))
        limited, seconds = seconds is not None, planned_seconds(device, seconds)
        budget = Budget(timed, kind, seconds, room, draft.case_bytes, draft.regions is not None, processes, limited)
        found = _search(draft, asked, budget, values or {})
    draft.reasons.update({**found.reasons, **asked.reasons})
    draft.warnings += found.warnings
    return _finish(draft, found, model, device, budget).with_values(values or {})


def _timed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with the values that decide the time and memory of a step, or what is validated."""
    keys = ("precision", "optimiser", "weights")
    asked = {key: values[f"recipe.{key}"] for key in keys if f"recipe.{key}" in values}
    return recipe.model_copy(update=asked)


def _search(draft: Draft, asked: Request, budget: Budget, values: Mapping[str, Any]) -> Found:
    """Return the preset's network or the widest one, after a check that it can be trained with the values."""
    dims = draft.fingerprint.spatial_dims
    asked.check_dims(dims)
    if asked.preset is not None:
        config = preset_config(asked.preset, asked.variant, asked, draft)
        if asked.recipe_name == PRESETS[asked.preset].recipe:
            epochs = PRESETS[asked.preset].epochs or draft.recipe.epochs
            draft.recipe = draft.recipe.model_copy(update={"epochs": epochs})
        preset = PRESETS[asked.preset]
        patch = asked.patch(dims, None) or preset.patch_size
        _check_values(draft, asked.model, [(config, patch, asked.batch_size or preset.batch_size or 1)], values)
        return measure_preset(asked.preset, asked, config, budget)
    wanted, axis = asked.patch_dims
    slices, draft.reasons["spatial_dims"] = choose_slices(draft.fingerprint, draft.spacing, wanted, budget.kind, axis)
    shape = draft.median_shape
    space = Space(asked, draft.ends, shape, draft.grid_spacing, slices, budget.kind)
    all_sizes = ((config, found.patch, found.batch) for found in space for _, config in found.sizes)
    _check_values(draft, asked.model, all_sizes, values)
    return search(space, budget)


def _check_values(
    draft: Draft,
    model: str,
    candidates: Iterable[tuple[Mapping[str, Any], Sequence[int], int]],
    values: Mapping[str, Any],
) -> None:
    """Raise an error if no candidate network, patch and batch can be trained with the values (that of the first)."""
    problems: list[InputError] = []
    for config, patch, batch in candidates if values else ():
        try:
            check_plan(assemble(draft, model, config, patch, batch, draft.recipe).with_values(values))
        except InputError as error:
            problems.append(error)
        else:
            return
    if problems:
        raise problems[0]


def _rooms(device: str, memory: int | None, processes: int) -> tuple[int, int]:
    """Return the bytes that each process may use on its device, and the bytes for reading the cases."""
    room = plannable_memory(device) if memory is None else memory
    # Each process has its own GPU, but processes on a CPU share the memory.
    return (room // processes, room) if device == "cpu" else (room, plannable_memory())


def _finish(draft: Draft, found: Found, model: str, device: str, budget: Budget) -> Plan:
    recipe, draft.reasons["recipe.foreground_oversampling"], draft.reasons["recipe.batch_dice"] = plan_sampling(
        draft.recipe, draft.fingerprint, draft.labels, found.whole
    )
    recipe, draft.reasons["recipe.augmentation.flip_axes"] = plan_mirroring(recipe, draft.fingerprint)
    recipe, draft.reasons["recipe.augmentation.rotation"] = plan_rotation(recipe, draft.spacing, found.patch)
    recipe, draft.reasons["recipe.epochs"] = _schedule(recipe, found, budget)
    draft.reasons["recipe.precision"] = f"{describe_precision(recipe.precision, device)} on {device.partition(':')[0]}"
    cost = ValidationCost.of(
        draft.shapes,
        found.patch,
        recipe.overlap,
        patch_seconds=found.cost.seconds / budget.share(found.batch),
        processes=budget.processes,
    )
    if recipe.name == "default":
        steps = recipe.count_steps(draft.trained, found.batch)
        recipe = plan_validation(recipe, draft.validated, steps * found.cost.seconds, cost)
    draft.reasons["recipe.validate_every"] = _validation_reason(recipe, cost, draft)
    predicted = forecast(recipe, found, device, budget, cost, draft.trained, draft.validated)
    draft.warnings += warnings_of(recipe, predicted, found, budget, draft.trained)
    draft.warnings += validation_warnings(recipe, cost, draft.validated, budget)
    plan = assemble(draft, model, found.config, found.patch, found.batch, recipe)
    cropped, draft.reasons["crop_to_nonzero"] = plan_cropping(draft.fingerprint)
    update = {
        "crop_to_nonzero": cropped,
        "predicted": predicted,
        "data": DataSummary.of(draft.fingerprint),
        "warnings": tuple(draft.warnings),
    }
    return plan.model_copy(update=update).with_reasons(draft.reasons)


def _schedule(recipe: Recipe, found: Found, budget: Budget) -> tuple[Recipe, str]:
    """Fit the epochs of the default recipe into the time; a paper's network or recipe keeps its number of epochs."""
    if recipe.name != "default" or found.preset is not None:
        return recipe, f"recipe {recipe.name}, whatever the time given"
    step = found.cost.seconds
    steps = max(_FEWEST_STEPS, int(budget.seconds * STEP_SHARE / step))
    least, most = _STEPS_OF_AN_EPOCH
    per_epoch = max(least, min(most, steps // _EPOCHS_WANTED))
    update = {
        "epochs": max(1, steps // per_epoch),
        "steps_per_epoch": per_epoch,
    }
    reason = (
        f"about {number_of(steps, 'step')} of {step:.2f} s fit into {STEP_SHARE:.0%} of {format_time(budget.seconds)}"
    )
    return recipe.model_copy(update=update), reason


def _validation_reason(recipe: Recipe, cost: ValidationCost, draft: Draft) -> str:
    # Without known folds, the number of validation cases is a limit.
    number = number_of(recipe.count_validated(draft.validated), "case")
    validated = number if draft.held_out else f"up to {number}"
    if recipe.weights == "best":
        validated = f"{'' if draft.held_out else 'about '}{number}, all because they select the weights"
    if recipe.name != "default":
        return f"recipe {recipe.name}; {validated}, {cost}"
    return (
        f"{validated}, {cost}: as often, and as many, as take {VALIDATION_SHARE:.0%} of the steps' time, at least one"
    )
