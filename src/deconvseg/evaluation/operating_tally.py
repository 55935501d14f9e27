"""Accumulate cases to the operating points of a structure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import bounding_box
from deconvseg.errors import InputError
from deconvseg.evaluation.lesions import LesionRule, detect_at_levels, detect_lesions
from deconvseg.evaluation.operating import COUNTS, LESION_PLACES, MEANS, Points, StructurePoints
from deconvseg.runs import GRID

Mask = npt.NDArray[np.bool_]
Levels = npt.NDArray[np.uint8]


@dataclass
class PointsTally:
    """Accumulates the cases of one structure, at several thresholds and without a threshold.

    Example:
        >>> import numpy
        >>> from deconvseg.evaluation import PointsTally
        >>> from deconvseg.evaluation.lesions import LesionRule
        >>> tally = PointsTally("lesion", at_half=True)
        >>> truth = numpy.array([[True, True, False, False]])
        >>> levels = numpy.array([[90, 30, 10, 0]], numpy.uint8)
        >>> tally.add(truth, levels, levels > 49, LesionRule())
        >>> found = tally.finish()
        >>> found.default.sensitivity, found.curve.sensitivity[24]
        ((0.5,), 1.0)

    """

    name: str
    at_half: bool
    cases: int = 0
    with_truth: int = 0
    _sums: dict[str, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)

    def add(self, truth: Mask, levels: Levels, default: Mask, rule: LesionRule) -> None:
        """Add a case (*S): true mask, number of thresholds in GRID that each voxel passes, and default mask."""
        box = bounding_box(truth | (levels > 0) | default) or (slice(0, 0),) * truth.ndim
        truth, levels, default = truth[box], levels[box], default[box]
        self.cases += 1
        n_truth = int(np.count_nonzero(truth))
        self.with_truth += n_truth > 0
        # Voxels that pass more than n thresholds are in the mask of threshold n.
        passed, true = (_count_levels(part)[:0:-1].cumsum()[::-1] for part in (levels, levels[truth][None]))
        self._add("curve", n_truth, passed, true, detect_at_levels(truth, levels, LESION_PLACES, rule))
        both = np.array([np.count_nonzero(truth & default)])
        lesions = detect_lesions(truth, default, 1.0, LesionRule(rule.overlap)).total()
        column = np.array([[lesions[key]] for key in ("found", "missed", "false")])
        self._add("default", n_truth, np.array([np.count_nonzero(default)]), both, column)

    def finish(self) -> StructurePoints:
        """Return the operating points of the added cases."""
        if not self.cases:
            raise InputError("operating points need a case")
        return StructurePoints(
            name=self.name,
            cases_with_truth=self.with_truth,
            at_half=self.at_half,
            default=self._points("default"),
            curve=self._points("curve"),
        )

    def _add(self, part: str, truth: int, predicted: Any, common: Any, lesions: Any) -> None:
        with np.errstate(invalid="ignore", divide="ignore"):
            both_empty = (predicted == 0) & (truth == 0)
            rates = {
                "dice": np.where(both_empty, 1.0, 2 * common / (truth + predicted)),
                "mean_sensitivity": both_empty.astype(float) if truth == 0 else common / truth,
                "mean_precision": np.where(predicted == 0, both_empty.astype(float), common / predicted),
            }
        found, missed, false = lesions
        counts = {"predicted": predicted, "common": common, "found": found, "missed": missed, "false": false}
        before = self._sums.setdefault(part, {})
        for key, values in {**rates, **counts, "truth": np.array(truth)}.items():
            before[key] = before[key] + values if key in before else values

    def _points(self, part: str) -> Points:
        sums = self._sums[part]
        means = {key: tuple((sums[key] / self.cases).tolist()) for key in MEANS}
        counts = {key: tuple(map(int, sums[key])) for key in COUNTS}
        return Points(**means, **counts, truth=int(sums["truth"]))


def _count_levels(levels: Levels) -> npt.NDArray[np.int64]:
    """Return how many voxels (N, \\*S) have each level, slice by slice: `bincount` copies its input to 64 bits."""
    counts = np.zeros(len(GRID) + 1, np.int64)
    for part in levels:
        counts += np.bincount(part.ravel(), minlength=len(counts))
    return counts
