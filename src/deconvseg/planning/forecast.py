"""Forecast of the time and memory of a planned training, with warnings if they exceed the limits."""

from deconvseg.planning.parts import Prediction
from deconvseg.planning.recipes import Recipe
from deconvseg.planning.search import STEP_SHARE, STEPS_WANTED, Budget, Found
from deconvseg.planning.validation import VALIDATION_SHARE, ValidationCost
from deconvseg.text import number_of
from deconvseg.units import format_bytes, format_time


def forecast(
    recipe: Recipe, found: Found, device: str, budget: Budget, cost: ValidationCost, trained: int, validated: int
) -> Prediction:
    """Predict time and memory; ``trained`` and ``validated`` are numbers of cases."""
    training = training_seconds(
        recipe,
        recipe.count_steps(trained, found.batch),
        found.cost.seconds,
        cost.once(recipe.count_validated(validated)),
    )
    return Prediction(
        device=device,
        step_seconds=float(f"{found.cost.seconds:.4g}"),
        training_seconds=float(f"{training:.4g}"),
        memory_bytes=budget.total(found.cost),
        inference_memory_bytes=found.cost.inference,
        memory_limit_bytes=budget.memory,
        processes=budget.processes,
        measured=found.measured,
    )


def training_seconds(recipe: Recipe, steps_per_epoch: int, step_seconds: float, validation_seconds: float) -> float:
    """Predict the seconds of all steps and validations from those of one each."""
    steps = recipe.epochs * steps_per_epoch * step_seconds
    validations = max(1, recipe.epochs // recipe.validate_every) * validation_seconds if recipe.epochs else 0.0
    # The time besides the steps includes the usual validations.
    return steps / STEP_SHARE + max(0.0, validations - VALIDATION_SHARE * steps)


def warnings_of(recipe: Recipe, predicted: Prediction, found: Found, budget: Budget, trained: int) -> list[str]:
    """Return warnings, with numbers, if the plan does not fit into the time or the memory."""
    warnings = []
    steps = recipe.epochs * recipe.count_steps(trained, found.batch)
    # Rounding to whole epochs alone must not cause a warning.
    if steps * found.cost.seconds / STEP_SHARE > 1.2 * budget.seconds:
        warnings.append(
            f"the plan's {number_of(steps, 'step')} of {found.cost.seconds:.2f} s take about "
            f"{format_time(predicted.training_seconds)} on this machine, with loading and validation"
            f"{_describe_end(predicted, found.cost.seconds, budget)}"
        )
    elif found.preset is None and found.cost.seconds > budget.step:
        warnings.append(
            f"only about {number_of(steps, 'step')} of {found.cost.seconds:.2f} s, with loading and validation, fit "
            f"into {format_time(budget.seconds)}{'' if budget.limited else ', the default time'}, where {STEPS_WANTED} "
            "are wanted: give more time, or a faster machine"
        )
    if predicted.memory_bytes > budget.memory:
        steps_do = found.cost.memory > budget.memory
        remedy = (
            "give a smaller patch_size or batch_size" if steps_do else "its largest case does; give a coarser spacing"
        )
        warnings.append(
            f"training takes about {format_bytes(predicted.memory_bytes)} of memory, more than the "
            f"{format_bytes(budget.memory)} that it may have: {remedy}"
        )
    return warnings


def _describe_end(predicted: Prediction, step_seconds: float, budget: Budget) -> str:
    """Say where the time limit ends a training that is too long for it, and what to do."""
    if not budget.limited:
        return "; use fewer epochs, or give a time limit, if that is too long"
    limit, total = format_time(budget.seconds), format_time(predicted.training_seconds)
    within = int(budget.seconds * STEP_SHARE / step_seconds)
    ends = f"after about {within} of them" if within else "after the first, which is finished even if the time is up"
    return f": a training limited to {limit} ends {ends}; allow {total} for all of them, or use fewer epochs"


def validation_warnings(recipe: Recipe, cost: ValidationCost, validated: int, budget: Budget) -> list[str]:
    """Return warnings if one validation, or the final prediction of all cases, takes too long for the time."""
    warnings = []
    count = recipe.count_validated(validated)
    once = cost.once(count)
    if budget.limited and once > 2 * (1 - STEP_SHARE) * budget.seconds:
        warnings.append(
            f"the first validation takes about {format_time(once)} ({number_of(count, 'case')}, {cost}) and is "
            "finished even if the time is up, because it selects the weights"
            if recipe.weights == "best"
            else f"a validation ({cost}) is cut short, without a score, where the time is up before it ends"
        )
    afterwards = validated * cost.seconds
    if afterwards > budget.seconds:
        warnings.append(
            f"predicting the {number_of(validated, 'validation case')} after the training takes about "
            f"{format_time(afterwards)} more ({cost}): have fewer of them, a coarser spacing or a smaller "
            "recipe.overlap"
        )
    return warnings
