"""What an evaluation found, and its files."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg._version import __version__
from deconvseg.evaluation.masks import ClassMetrics
from deconvseg.evaluation.metrics import POLICY
from deconvseg.evaluation.summary import METRICS, count_statuses, summarize
from deconvseg.system import atomic_write

_NNUNET_KEYS = {
    "Dice": "dsc",
    "IoU": "iou",
    "TP": "tp",
    "FP": "fp",
    "FN": "fn",
    "TN": "tn",
    "n_pred": "n_prediction",
    "n_ref": "n_truth",
    "HD95": "hd95",
    "NSD": "nsd",
}


@dataclass(frozen=True)
class CaseMetrics:
    """The metrics of one case by label value, with its grid, its files, and what was predicted and ignored in it.

    ``aligned`` says that its masks store the value of their one class in different ways.
    """

    name: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    metrics: Mapping[int, ClassMetrics]
    truth_file: Path
    prediction_file: Path
    image_files: tuple[Path, ...] = ()
    predicted_labels: tuple[int, ...] = ()
    ignored_voxels: int = 0
    aligned: bool = False

    @property
    def mean(self) -> dict[str, float]:
        """DSC, HD95 and NSD averaged over the classes."""
        return {key: float(np.mean([float(row[key]) for row in self.metrics.values()])) for key in METRICS}


@dataclass(frozen=True)
class Evaluation:
    """Metrics of many cases; ``problems`` says which could not be evaluated and why, one line each.

    ``regions`` are the label values of those classes that are unions of several, in the order of painting.
    ``unit`` is that of distances ("mm" or "voxel"), volumes are in its cube (2D: areas, its square).
    """

    cases: tuple[CaseMetrics, ...]
    labels: Mapping[int, str]
    unit: str
    tolerance: float
    foreground: bool = False
    regions: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    ignore_label: int | None = None
    split: str | None = None
    missing: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Mean, median, deviation and 95 % bootstrap interval per class ("classes") and over classes ("mean")."""
        return summarize([case.metrics for case in self.cases], self.labels)

    @property
    def mean_dice(self) -> float:
        """The mean over cases of the mean Dice over classes; 0 where no case could be evaluated."""
        return float(self.summary["mean"]["dsc"]["mean"]) if self.cases else 0.0

    @property
    def counts(self) -> dict[str, int]:
        """How many cases were evaluated, missing or failed, and masks missed, spurious or both empty."""
        rows = [row for case in self.cases for row in case.metrics.values()]
        return {
            "cases": len(self.cases) + len(self.problems),
            "evaluated": len(self.cases),
            "missing_predictions": len(self.missing),
            "failed": len(self.problems) - len(self.missing),
            **count_statuses(rows),
        }

    def to_json(self, folder: Path | None = None) -> dict[str, Any]:
        """Return everything as plain types; files below ``folder`` are named relative to it."""
        return {
            "version": 1,
            "deconvseg": __version__,
            "unit": self.unit,
            "tolerance": self.tolerance,
            "foreground": self.foreground,
            "split": self.split,
            "empty_masks": dict(POLICY),
            "labels": {str(value): name for value, name in self.labels.items()},
            "regions": {str(value): list(members) for value, members in self.regions.items()},
            "ignore_label": self.ignore_label,
            "counts": self.counts,
            "summary": self.summary,
            "missing": list(self.missing),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "cases": [
                {
                    "name": case.name,
                    "shape": list(case.shape),
                    "spacing": list(case.spacing),
                    "truth_file": _name_file(case.truth_file, folder),
                    "prediction_file": _name_file(case.prediction_file, folder),
                    "image_files": [_name_file(file, folder) for file in case.image_files],
                    "mean": case.mean,
                    "classes": {str(value): dict(row) for value, row in case.metrics.items()},
                }
                for case in self.cases
            ],
        }

    def write(self, output: Path, further: Mapping[str, Any] | None = None) -> None:
        """Write ``output`` (JSON: everything, ``further`` too), nnU-Net's ``summary.json`` and a flat CSV beside it."""
        prefix = "" if output.stem == "metrics" else f"{output.stem}_"
        for file, tree in (
            (output, {**self.to_json(output.parent.absolute()), **(further or {})}),
            (output.with_name(f"{prefix}summary.json"), self.to_nnunet()),
        ):
            with atomic_write(file) as path:
                path.write_text(
                    json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
                )
        with (
            atomic_write(output.with_suffix(".csv")) as path,
            path.open("w", newline="", encoding="utf-8") as stream,
        ):
            rows = [
                {"case": case.name, "label": value, **row} for case in self.cases for value, row in case.metrics.items()
            ]
            writer = csv.DictWriter(stream, list(rows[0]) if rows else ["case", "label"])
            writer.writeheader()
            writer.writerows(rows)

    def to_nnunet(self) -> dict[str, Any]:
        """Return nnU-Net's ``summary.json`` (``metric_per_case``, ``mean``, ``foreground_mean``), HD95 and NSD added.

        Absent classes follow the rule for empty masks, so that no mean is ever NaN.
        """
        per_case = [
            {
                "metrics": {
                    self._nnunet_key(value): {key: row[ours] for key, ours in _NNUNET_KEYS.items()}
                    for value, row in case.metrics.items()
                },
                "prediction_file": str(case.prediction_file),
                "reference_file": str(case.truth_file),
            }
            for case in self.cases
        ]
        mean = (
            {self._nnunet_key(value): _mean([case.metrics[value] for case in self.cases]) for value in self.labels}
            if self.cases
            else {}
        )
        foreground = {key: float(np.mean([row[key] for row in mean.values()])) for key in _NNUNET_KEYS} if mean else {}
        return {"metric_per_case": per_case, "mean": mean, "foreground_mean": foreground}

    def _nnunet_key(self, value: int) -> str:
        """Return a label's value, or a region's labels as nnU-Net writes them: ``(1, 2, 3)``."""
        return str(self.regions.get(value, value))


def _mean(rows: Sequence[ClassMetrics]) -> dict[str, float]:
    return {key: float(np.mean([float(row[ours]) for row in rows])) for key, ours in _NNUNET_KEYS.items()}


def _name_file(file: Path, folder: Path | None) -> str:
    # Relative where it lies below, so that a run folder can be moved with its masks.
    path = file.absolute()
    return path.relative_to(folder).as_posix() if folder and path.is_relative_to(folder) else str(path)
