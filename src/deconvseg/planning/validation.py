"""Frequency of validation and number of cases, so that validation takes a small share of the time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deconvseg.planning.recipes import Recipe
from deconvseg.text import number_of
from deconvseg.units import format_time

# Relative to the time of the steps; together with the reading of patches it fills the remaining time.
VALIDATION_SHARE = 0.2
# Epochs between validations if affordable; else validations become rarer before cases become fewer.
_VALIDATE_EVERY, _FEWEST_VALIDATIONS = 4, 3
# Share of the forward pass in a training step; the backward pass has twice the multiplications.
_FORWARD = 1 / 3


@dataclass(frozen=True)
class ValidationCost:
    """Cost of validation: mean ``windows`` and ``seconds`` per case; each of the ``processes`` predicts one case."""

    windows: float
    seconds: float
    processes: int = 1

    @classmethod
    def of(
        cls,
        shapes: Sequence[Sequence[int]],
        window: Sequence[int],
        overlap: float,
        *,
        patch_seconds: float,
        processes: int = 1,
    ) -> "ValidationCost":
        """Estimate the cost for cases of these shapes from the seconds per patch in a training step."""
        windows = sum(count_windows(shape, window, overlap) for shape in shapes) / len(shapes)
        return cls(windows, windows * patch_seconds * _FORWARD, processes)

    def __str__(self) -> str:
        seconds = f"{self.seconds:.2g} s" if self.seconds < 10 else format_time(self.seconds)
        return f"{number_of(round(self.windows), 'window')}, about {seconds} a case"

    def once(self, cases: int) -> float:
        """Return the seconds of a validation with this number of cases."""
        return math.ceil(cases / self.processes) * self.seconds


def count_windows(shape: Sequence[int], window: Sequence[int], overlap: float) -> int:
    """Return the number of windows that cover a case; neighbours overlap by at least the fraction ``overlap``."""
    return math.prod(
        1 if size <= side else 1 + math.ceil((size - side) / max(1, int(side * (1 - overlap) + 1e-9)))
        for size, side in zip(shape, window, strict=True)
    )


def plan_validation(recipe: Recipe, cases: int, epoch_seconds: float, cost: ValidationCost) -> Recipe:
    """Return the recipe with validations on up to ``cases`` cases that take at most their share of the time.

    ``epoch_seconds`` is the time of the steps of an epoch. At least one case is validated at the end, even if it takes
    longer; all cases if the validations select the weights, which only makes them rarer.
    """
    cases = recipe.count_validated(cases)
    each_epoch = VALIDATION_SHARE * epoch_seconds
    usual = min(_VALIDATE_EVERY, recipe.epochs)
    every = max(usual, math.ceil(cost.once(cases) / each_epoch))
    rarest = max(usual, recipe.epochs // _FEWEST_VALIDATIONS)
    if every <= rarest:
        return recipe.model_copy(update={"validate_every": every})
    update = {}
    if recipe.weights == "final":
        rounds = max(1, int(rarest * each_epoch / cost.seconds))
        cases = min(cases, rounds * cost.processes)
        update = {"validation_cases": cases}
    every = max(rarest, min(recipe.epochs, math.ceil(cost.once(cases) / each_epoch)))
    return recipe.model_copy(update={"validate_every": every, **update})
