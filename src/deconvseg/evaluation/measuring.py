"""The measured metrics with their options and the policy for empty masks, checked together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation.definition import Metric, MetricInfo
from deconvseg.evaluation.empty_masks import Policy, check_policy
from deconvseg.evaluation.lesions import LesionRule
from deconvseg.evaluation.metrics import ALWAYS_MEASURED, DEFAULT_METRICS
from deconvseg.evaluation.pair import MaskPair, check_tolerance
from deconvseg.evaluation.registry import TAKEN, choose_metrics, list_metrics

# Texts and numbers; None for a metric dropped by the policy for empty masks.
ClassMetrics = dict[str, Any]


@dataclass(frozen=True)
class Measuring:
    """The metrics of a row, their options and the policy for empty masks.

    ``metrics`` are summarised. Rows also contain the metrics that are always measured.
    """

    metrics: tuple[Metric, ...]
    empty: Policy = "diagonal"
    tolerance: float = 1.0
    lesions: LesionRule = field(default_factory=LesionRule)

    @classmethod
    def choose(
        cls,
        metrics: str | Sequence[str] | None = None,
        *,
        empty: str = "diagonal",
        tolerance: float | None = None,
        lesion_overlap: float | None = None,
        lesion_sizes: Sequence[float] | None = None,
    ) -> Measuring:
        """Check the requested metrics and options; None selects the default.

        Dice is always included, because cases are ranked by it. Raises :class:`InputError` for an unknown metric or
        policy, an invalid option, and an option on which no chosen metric depends.
        """
        chosen = choose_metrics(metrics, DEFAULT_METRICS)
        given = {"tolerance": tolerance, "lesion_overlap": lesion_overlap, "lesion_sizes": lesion_sizes}
        for option in (name for name, value in given.items() if value is not None):
            if not any(option in metric.options for metric in chosen):
                owners = " or ".join(metric.title for metric in list_metrics() if option in metric.options)
                raise InputError(
                    f"`{option}` is given, but only {owners} depends on it: "
                    f"add it to `metrics`, or leave `{option}` out"
                )
        leading = tuple(metric for metric in list_metrics() if metric.key == DEFAULT_METRICS[0])
        found = cls(
            metrics=(*leading, *(metric for metric in chosen if metric not in leading)),
            empty=check_policy(empty),
            tolerance=1.0 if tolerance is None else check_tolerance(tolerance),
            lesions=LesionRule(0.0 if lesion_overlap is None else lesion_overlap, tuple(lesion_sizes or ())),
        )
        counted = [count.column for info in found.infos for count in info.counts]
        columns = Counter([*counted, *(metric.key for metric in found.columns)])
        if twice := [name for name, times in columns.items() if times > 1]:
            raise InputError(f"two of the metrics have a column {twice[0]!r}: leave one of them out")
        if taken := TAKEN.intersection(counted):
            raise InputError(f"a metric counts in the column {min(taken)!r}, which is taken: rename the column")
        return found

    @cached_property
    def infos(self) -> tuple[MetricInfo, ...]:
        """The descriptions of the metrics in files and tables."""
        return tuple(metric.describe(self.empty, self.empty_pair(1)) for metric in self.metrics)

    @cached_property
    def columns(self) -> tuple[Metric, ...]:
        """The metrics of a row, in the order of tables."""
        keys = {*ALWAYS_MEASURED, *(metric.key for metric in self.metrics)}
        return tuple(metric for metric in list_metrics() if metric.key in keys)

    def empty_pair(self, voxels: int) -> MaskPair:
        """Return an empty pair of masks, for a class that neither mask of a case with this number of voxels has."""
        nothing = np.zeros((0, 0), bool)
        return MaskPair(nothing, nothing, (1.0, 1.0), 0.0, voxels, 1.0, self.tolerance, self.lesions)

    def measure(self, pair: MaskPair, name: str) -> ClassMetrics:
        """Return the row of a class: metrics, counts, volumes and numbers of voxels."""
        n_truth, n_prediction, both = pair.counts
        return {
            "name": name,
            "status": pair.status,
            **{metric.key: metric.measure(pair, self.empty) for metric in self.columns},
            "volume_truth": n_truth * pair.voxel_size,
            "volume_prediction": n_prediction * pair.voxel_size,
            "volume_difference": (n_prediction - n_truth) * pair.voxel_size,
            "tp": both,
            "fp": n_prediction - both,
            "fn": n_truth - both,
            "tn": pair.voxels - n_truth - n_prediction + both,
            "n_truth": n_truth,
            "n_prediction": n_prediction,
            **self._count(pair),
        }

    def _count(self, pair: MaskPair) -> dict[str, int]:
        """Return the counts of all metrics by column, after a check that the columns are those declared for files."""
        found: dict[str, int] = {}
        for metric, info in zip(self.metrics, self.infos, strict=True):
            counts = metric.count(pair)
            if tuple(counts) != info.counts:
                raise DeconvsegError(f"{metric.title}: the metric's tally must give the same columns for all masks")
            found |= {count.column: number for count, number in counts.items()}
        return found
