"""Masks of one class are that class, however a file stores white: 1 in 1 bit, 255 in 8, 65535 in 16."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from deconvseg.data import WHITE, align_white, list_names
from deconvseg.evaluation.classes import Classes
from deconvseg.evaluation.evaluation import CaseMetrics
from deconvseg.evaluation.masks import ClassMetrics, find_labels

Labels = npt.NDArray[Any]


def align_masks(truth: Labels, prediction: Labels, classes: Classes, ignore: int | None) -> tuple[Labels, Labels]:
    """Return both masks with one value for white: that of the only class, else the truth's where both have one class.

    Masks are returned as they are where several classes are known, or one of the masks has several.
    """
    if classes.foreground or classes.members or len(classes.names) > 1:
        return truth, prediction
    value = next(iter(classes.names), None)
    if value is None:
        ignored = None if ignore is None else truth == ignore
        found = [find_labels(mask, ignored) for mask in (truth, prediction)]
        if any(len(values) > 1 or not values <= set(WHITE) for values in found) or not (found[0] or found[1]):
            return truth, prediction
        value = next(iter(found[0] or found[1]))
    return align_white(truth, value, ignore=ignore), align_white(prediction, value, ignore=ignore)


def unite_cases(cases: Sequence[CaseMetrics], classes: Classes) -> list[CaseMetrics]:
    """Return the cases with one class, the most frequent, where nothing names classes and all have one white class."""
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
    """Return a line about the cases whose masks store white in several ways, if there are any."""
    names = [case.name for case in cases if case.aligned]
    if not names:
        return []
    values = ", ".join(map(str, WHITE))
    return [f"masks of one class that store it as another of {values}: {list_names(names)}; all count as that class"]
