"""A forecast of the time of a training and its later steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.options import TrainOptions
from deconvseg.planning import Plan, Recipe, ValidationCost, training_seconds
from deconvseg.training.further import End, planned_end
from deconvseg.training.launch import processes
from deconvseg.training.sharing import share_of_batch
from deconvseg.units import format_time

# Measured on two cores for a run with a few pictures.
REPORT_SECONDS = 4.0


@dataclass(frozen=True)
class Outlook:
    """The known properties of a training before it runs.

    It ends after ``epochs`` or ``max_seconds``, whichever comes first. Every ``validate_every`` epochs it validates
    ``validated`` cases; after its end, ``predicted`` cases are predicted, each of which takes about ``case_seconds``
    (None: not known yet). ``training`` is the number of seconds until then (None: not known); ``finishes`` is the work
    that makes it longer than the time limit.
    """

    epochs: int | None
    steps_per_epoch: int
    max_seconds: float | None
    validate_every: int
    validated: int
    predicted: int
    case_seconds: float | None = None
    training: float | None = None
    finishes: str | None = None

    @property
    def validation(self) -> float:
        """The seconds of predicting all validation cases at the end; 0 if not known yet."""
        return self.predicted * (self.case_seconds or 0.0)

    @property
    def total(self) -> float | None:
        """The seconds of the training and its later steps; None if not known."""
        return None if self.training is None else self.training + self.validation + REPORT_SECONDS

    def describe(self, planning: float = 0.0) -> str | None:
        """Describe the total time and the time of each part, given the seconds that ``planning`` took.

        None if the time of the training is not known.
        """
        if self.training is None:
            return None
        limit = " (the limit)" if self.training == self.max_seconds else ""
        if self.max_seconds is not None and self.finishes:
            limit = f" (past the limit of {format_time(self.max_seconds)}, to finish {self.finishes})"
        parts = [f"training {format_time(self.training)}{limit}"]
        if planning >= 1:
            parts.insert(0, f"planning {format_time(planning)} (done)")
        if self.predicted:
            cases = "1 validation case" if self.predicted == 1 else f"{self.predicted} validation cases"
            seconds = format_time(max(1.0, self.validation)) if self.case_seconds else "(time not known yet)"
            parts.append(f"predicting {cases} {seconds}")
        total = planning + (self.total or 0.0)
        return f"takes about {format_time(total)}: {', '.join(parts)}, report {format_time(REPORT_SECONDS)}"


def foresee(
    plan: Plan,
    options: TrainOptions,
    trained: int,
    predicted: int,
    *,
    shapes: Sequence[Sequence[int]] = (),
    rows: Sequence[Mapping[str, Any]] = (),
    end: End | None = None,
) -> Outlook:
    """Return the forecast of a training from the measurements in its plan.

    The training has ``trained`` cases; after it, ``predicted`` cases are predicted. ``shapes`` are the shapes of the
    validation cases at the spacing of the plan, by default the median of all cases. ``rows`` are the metrics of the
    completed epochs. The training ends as the options say, or at another ``end``.
    """
    end = planned_end(options, plan) if end is None else end
    recipe, epochs, limit = plan.recipe, end.epochs, end.seconds
    validated = recipe.count_validated(predicted)
    cost, steps, by_clock, finishes = None, None, None, None
    if limit is not None:
        by_clock = max(0.0, limit - (rows[-1]["seconds"] if rows else 0.0))
    if plan.predicted is not None:
        shapes = shapes or _median_shape(plan)
        patch_seconds = plan.predicted.step_seconds / share_of_batch(plan.batch_size, plan.predicted.processes)
        count = processes(options)
        if shapes:
            cost = ValidationCost.of(
                shapes, plan.patch_size, recipe.overlap, patch_seconds=patch_seconds, processes=count
            )
        once = 0.0 if cost is None else cost.once(validated)
        steps = training_seconds(
            recipe.model_copy(update={"epochs": max(0, (epochs or recipe.epochs) - len(rows))}),
            plan.steps_per_epoch(trained),
            plan.predicted.step_seconds,
            once,
        )
        if by_clock:
            by_clock, finishes = _finish_past(
                by_clock,
                plan.predicted.step_seconds,
                once if recipe.weights == "best" and all(row["val_dice"] is None for row in rows) else 0.0,
                _epochs_to_validation(recipe, len(rows)) * plan.steps_per_epoch(trained),
            )
    known = [seconds for seconds in (steps if epochs is not None else None, by_clock) if seconds is not None]
    training = min(known, default=steps)
    return Outlook(
        epochs,
        plan.steps_per_epoch(trained),
        limit,
        min(recipe.validate_every, recipe.epochs),
        validated,
        predicted,
        None if cost is None else cost.seconds,
        training,
        finishes if training == by_clock else None,
    )


def _finish_past(limit: float, step_seconds: float, owed: float, steps_before: int) -> tuple[float, str | None]:
    """Return the seconds of a training with a time limit, and the work that makes them longer than the limit.

    The first step is finished, and so is a validation of ``owed`` seconds that selects the weights; it comes after
    ``steps_before`` steps, or when the time is up.
    """
    steps = max(limit, step_seconds)
    if owed:
        end = min(steps, steps_before * step_seconds) + owed
        if end > steps:
            return end, "the first validation"
    return steps, "one step" if steps > limit else None


def _epochs_to_validation(recipe: Recipe, done: int) -> int:
    """Return the epochs until the next validation."""
    every = min(recipe.validate_every, recipe.epochs)
    return every - done % every


def _median_shape(plan: Plan) -> list[list[int]]:
    """Return the shape of the median case on the plan's grid; nothing if the plan has no figures of its data."""
    if plan.resize is not None:
        return [list(plan.resize)]
    if plan.data is None:
        return []
    sizes = zip(plan.data.shapes[1], plan.data.spacings[1], plan.spacing, strict=True)
    return [[max(1, round(size * given / wanted)) for size, given, wanted in sizes]]
