"""The operating points of a run, measured while its validation cases are predicted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import Case, Dataset, LabelMap
from deconvseg.errors import DeconvsegError
from deconvseg.evaluation import OperatingPoints, PointsTally
from deconvseg.evaluation.lesions import LesionRule
from deconvseg.inference import Prediction
from deconvseg.planning import Plan
from deconvseg.runs import GRID

# The place of the default threshold of regions among those that levels count.
_HALF = GRID.index(0.5)


@dataclass
class OperatingMeasurement:
    """Receives each predicted case of a dataset, as ``measure`` of :func:`~deconvseg.inference.predict_cases`."""

    data: Dataset
    plan: Plan
    measured: set[str] = field(default_factory=set)
    problems: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_half = self.plan.regions is not None or self.plan.outputs == 2
        self.tallies = [PointsTally(name, at_half) for name in self.plan.output_names]

    def __call__(self, case: Case, levels: npt.NDArray[np.uint8], mask: LabelMap) -> None:
        """Add a case; a case whose true mask cannot be compared is left out, which the evaluation reports."""
        encoding = self.plan.labels.to_encoding()
        try:
            label = self.data.load_label(case)
            if label is None or label.shape != mask.shape:
                self.problems[case.name] = "its true mask is missing, or on another grid"
                return
            truth = encoding.encode(label.pixels, where=str(case.label), white=label.white)
        except DeconvsegError as error:
            self.problems[case.name] = str(error)
            return
        predicted = encoding.encode(mask.pixels)
        judged = None if encoding.ignore_id is None else truth != encoding.ignore_id
        for tally, ids, part in zip(self.tallies, self._members, levels, strict=True):
            counted: npt.NDArray[Any] = np.asarray(part)
            # A region is scored by itself, not as it is painted.
            default = np.isin(predicted, ids) if self.plan.regions is None else counted > _HALF
            masks = [np.isin(truth, ids), default]
            if judged is not None:
                masks, counted = [found & judged for found in masks], counted * judged
            tally.add(masks[0], counted, masks[1], LesionRule())
        self.measured.add(case.name)

    def finish(self, prediction: Prediction) -> OperatingPoints | None:
        """Return the points of the measured cases, with the doubt of all cases; None if no case was measured."""
        if not self.measured:
            return None
        left_out = [f"{name}: {text}" for name, text in self.problems.items()]
        large = [name for name in prediction.doubts if name not in self.measured and name not in self.problems]
        return OperatingPoints(
            cases=len(self.measured),
            structures=tuple(tally.finish() for tally in self.tallies),
            doubts={name: found.score for name, found in prediction.doubts.items()},
            left_out=(*left_out, *(f"{name}: too large to measure, or not predicted" for name in large)),
        )

    @property
    def _members(self) -> list[tuple[int, ...]]:
        """The class ids of each structure, in the order of the network's outputs."""
        if self.plan.regions is not None:
            return [tuple(region.labels) for region in self.plan.regions]
        return [(number,) for number in range(1, self.plan.outputs)]
