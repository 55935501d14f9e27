"""Equal values for one-class masks, independent of how files store white: 1 in 1 bit, 255 in 8, 65535 in 16."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import WHITE, LabelMap, align_white, list_names
from deconvseg.evaluation.classes import Classes
from deconvseg.evaluation.evaluation import CaseMetrics
from deconvseg.evaluation.masks import find_labels
from deconvseg.evaluation.measuring import ClassMetrics

Labels = npt.NDArray[Any]


def align_masks(truth: LabelMap, prediction: LabelMap, classes: Classes, ignore: int | None) -> tuple[Labels, Labels]:
    """Return the pixels of both masks with one value for white: that of the only class, else their common white.

    Pixels are returned unchanged if several classes are known, or one of the masks has several.
    """
    pair = truth.pixels, prediction.pixels
    if classes.foreground or classes.members or len(classes.names) > 1:
        return pair
    value = next(iter(classes.names), None)
    if value is None:
        value = _common_white(truth, prediction, None if ignore is None else truth.pixels == ignore)
    if value is None:
        return pair
    first, second = (align_white(mask.pixels, value, ignore=ignore, white=mask.white) for mask in (truth, prediction))
    return first, second


def _common_white(truth: LabelMap, prediction: LabelMap, ignored: npt.NDArray[np.bool_] | None) -> int | None:
    """Return the common white of two one-class masks; None for other masks, and for masks that already agree.

    It is the value of the truth if that is 1, 255 or 65535, else the prediction's under the same condition, else 255.
    """
    found: list[int] = []
    for mask in (truth, prediction):
        values = find_labels(mask.pixels, ignored)
        if len(values) > 1 or not values <= {*WHITE, mask.white}:
            return None
        found += values
    return next((value for value in found if value in WHITE), 255) if len(set(found)) > 1 else None


def unite_cases(cases: Sequence[CaseMetrics], classes: Classes) -> list[CaseMetrics]:
    """Return the cases with one class value, the most frequent, if no classes are named and all have only white."""
    found = Counter(value for case in cases for value in case.metrics)
    white = all(len(case.metrics) < 2 for case in cases) and set(found) <= set(WHITE)
    if classes.names or classes.foreground or not white or len(found) < 2:
        return list(cases)
    common = max(found, key=lambda value: (found[value], value))
    return [
        replace(
            case,
            metrics=_rename(case, common),
            predicted_labels=(common,) if case.predicted_labels else (),
            aligned=case.aligned or set(case.metrics) - {common} != set(),
        )
        for case in cases
    ]


def _rename(case: CaseMetrics, value: int) -> dict[int, ClassMetrics]:
    row = next(iter(case.metrics.values()), None)
    return {} if row is None else {value: {**row, "name": f"label {value}"}}


def describe_aligned(cases: Sequence[CaseMetrics]) -> list[str]:
    """Return a line about cases whose masks store white with different values, if there are any."""
    names = [case.name for case in cases if case.aligned]
    if not names:
        return []
    values = ", ".join(map(str, WHITE))
    whites = f"another of {values} or another depth's white"
    return [f"masks of one class that store it as {whites}: {list_names(names)}; all count as that class"]
