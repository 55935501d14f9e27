"""Warnings about a plan that does not fit the prepared cases."""

import math
from collections.abc import Sequence
from statistics import median

from deconvseg.data import PreparedCase, describe_absent_class
from deconvseg.planning import Plan

# Below this fraction of a patch, most of the training data is padding.
_LEAST_FILLED = 0.25


def warn_of_padding(plan: Plan, cases: Sequence[PreparedCase]) -> list[str]:
    """Return a warning if the median case, at the plan's spacing, fills little of the plan's patch."""
    if not cases:
        return []
    shape = [int(median(sizes)) for sizes in zip(*(case.shape for case in cases), strict=True)]
    pairs = list(zip(shape, plan.patch_size, strict=True))
    filled = math.prod(min(size, patch) / patch for size, patch in pairs)
    if filled >= _LEAST_FILLED:
        return []
    sizes, patch = (" x ".join(map(str, numbers)) for numbers in (shape, plan.patch_size))
    grid = f"at the plan's spacing {' x '.join(f'{length:g}' for length in plan.spacing)}"
    if plan.resize is not None:
        grid = f"resized to {' x '.join(map(str, plan.resize))}"
    return [
        f"{grid} the median case has {sizes} voxels and fills {filled:.0%} of a patch of "
        f"{patch}: check the {'size' if plan.resize else 'spacing'} and the patch of the plan"
    ]


def describe_absent_classes(plan: Plan, cases: Sequence[PreparedCase]) -> list[str]:
    """Return a sentence for each class of the plan that no training mask has on the plan's grid."""
    taught = {label for case in cases for label, _ in case.classes}
    absent = [index for index in range(1, len(plan.labels.values)) if index not in taught]
    return [
        describe_absent_class(plan.labels.names[index], plan.labels.values[index], "the training masks")
        for index in absent
    ]
