"""What an evaluation found, and its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg._version import __version__
from deconvseg.data import name_beside, write_table
from deconvseg.evaluation.masks import ClassMetrics
from deconvseg.evaluation.metrics import POLICY
from deconvseg.evaluation.summary import METRICS, ScoreTable, count_statuses, summarize
from deconvseg.system import atomic_write
from deconvseg.text import dump_json

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
    ``counted`` are the label values that means over classes are over; the :class:`Evaluation` of the case sets them.
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
    counted: tuple[int, ...] = ()

    @property
    def mean(self) -> dict[str, float]:
        """DSC, HD95 and NSD averaged over the counted classes."""
        return _average([self.metrics[value] for value in self.counted or self.metrics])

    @property
    def mean_with_truth(self) -> dict[str, float] | None:
        """DSC, HD95 and NSD averaged over the classes that the true mask has; None for an empty true mask."""
        rows = [row for value, row in self.metrics.items() if self.has_truth(value)]
        return _average(rows) if rows else None

    def has_truth(self, value: int) -> bool:
        """Whether the true mask has that class."""
        return self.metrics[value]["status"] in ("ok", "missed")


@dataclass(frozen=True)
class Evaluation:
    """Metrics of many cases; ``problems`` says which could not be evaluated and why, one line each.

    ``missing`` are cases without a prediction, ``unmatched`` predictions without a true mask. ``origin`` says what was
    compared and which run made the predictions, as :func:`~deconvseg.evaluation.origin.find_origin` finds it.
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
    unmatched: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Tell every case which classes occur in some mask of the whole set: its mean is over these."""
        if self.cases and self.labels:
            table = ScoreTable([case.metrics for case in self.cases], self.labels)
            counted = tuple(value for value, use in zip(self.labels, table.counted, strict=True) if use)
            object.__setattr__(self, "cases", tuple(replace(case, counted=counted) for case in self.cases))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Statistics per class ("classes") and over classes ("mean"), as :func:`summarize` gives them."""
        return summarize([case.metrics for case in self.cases], self.labels)

    @property
    def mean_dice(self) -> float:
        """The mean over cases of the mean Dice over classes; 0 where no case could be evaluated."""
        return float(self.summary["mean"]["dsc"]["mean"]) if self.cases else 0.0

    @property
    def dice_with_truth(self) -> float | None:
        """The mean Dice of the cases whose true mask is not empty, over the classes it has; None if all are empty."""
        found = self.summary["mean"].get("with_truth")
        return float(found["dsc"]["mean"]) if found else None

    @property
    def counts(self) -> dict[str, int]:
        """How many cases were evaluated, missing or failed, and masks missed, spurious or both empty.

        Each counted class in a case is one: ``with_truth_masks`` could be missed, ``without_truth_masks`` be spurious.
        """
        rows = [case.metrics[value] for case in self.cases for value in case.counted]
        with_truth = sum(case.has_truth(value) for case in self.cases for value in case.counted)
        return {
            "cases": len(self.cases) + len(self.problems),
            "evaluated": len(self.cases),
            "missing_predictions": len(self.missing),
            "failed": len(self.problems) - len(self.missing),
            "unmatched_predictions": len(self.unmatched),
            "cases_with_truth": sum(case.mean_with_truth is not None for case in self.cases),
            "with_truth_masks": with_truth,
            "without_truth_masks": len(rows) - with_truth,
            **count_statuses(rows),
        }

    def describe(self) -> str:
        """Return one line: the mean Dice, the mean Dice of cases with truth, and what was missed."""
        text = f"mean Dice {self.mean_dice:.3f} over {len(self.cases)} case{'' if len(self.cases) == 1 else 's'}"
        counts, absent = self.counts, self.summary["mean"].get("absent_classes", 0)
        if absent:
            text += f" and {len(self.labels) - absent} of {len(self.labels)} classes (the others are in no mask)"
        if self.dice_with_truth is None:
            return f"{text}, none of which has a structure in its true mask"
        return (
            f"{text}; {self.dice_with_truth:.3f} over the {counts['cases_with_truth']} with a structure in the true "
            f"mask, {counts['missed']} of {counts['with_truth_masks']} structures missed, {counts['spurious']} of "
            f"{counts['without_truth_masks']} false alarms"
        )

    def to_json(self, folder: Path | None = None, *, shared: bool = False) -> dict[str, Any]:
        """Return everything as plain types; files below ``folder`` (``shared``: all) are named relative to it."""
        return {
            "version": 1,
            "deconvseg": __version__,
            "unit": self.unit,
            "tolerance": self.tolerance,
            "origin": dict(self.origin),
            "foreground": self.foreground,
            "split": self.split,
            "empty_masks": dict(POLICY),
            "labels": {str(value): name for value, name in self.labels.items()},
            "regions": {str(value): list(members) for value, members in self.regions.items()},
            "ignore_label": self.ignore_label,
            "counts": self.counts,
            "summary": self.summary,
            "missing": list(self.missing),
            "unmatched": list(self.unmatched),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "cases": [
                {
                    "name": case.name,
                    "shape": list(case.shape),
                    "spacing": list(case.spacing),
                    "truth_file": _name_file(case.truth_file, folder, shared),
                    "prediction_file": _name_file(case.prediction_file, folder, shared),
                    "image_files": [_name_file(file, folder, shared) for file in case.image_files],
                    "mean": case.mean,
                    "mean_with_truth": case.mean_with_truth,
                    "classes": {str(value): dict(row) for value, row in case.metrics.items()},
                }
                for case in self.cases
            ],
        }

    def write(self, output: Path, further: Mapping[str, Any] | None = None, *, shared: bool = False) -> None:
        """Write ``output`` (JSON: everything, ``further`` too), and beside it two CSV files and nnU-Net's summary.

        ``metrics.csv`` has a row per case and class, ``summary.csv`` one per class, ``summary.json`` nnU-Net's shape.
        For another ``output`` than ``metrics.json`` their names begin with its own. In what is ``shared``, as a run is,
        no file is named by its whole path.
        """
        folder = output.parent.absolute()
        prefix = "" if output.stem == "metrics" else f"{output.stem}_"
        _write_json(output, {**self.to_json(folder, shared=shared), **(further or {})})
        _write_json(output.with_name(f"{prefix}summary.json"), self.to_nnunet(folder if shared else None))
        rows = [
            {
                "case": case.name,
                "label": value,
                **row,
                # Empty where there is no truth: the mean of the column is the mean over cases with truth.
                "dsc_with_truth": row["dsc"] if case.has_truth(value) else None,
            }
            for case in self.cases
            for value, row in case.metrics.items()
        ]
        write_table(output.with_suffix(".csv"), rows, ["case", "label"])
        write_table(output.with_name(f"{prefix}summary.csv"), self._summary_rows(), ["label", "class"])

    def _summary_rows(self) -> list[dict[str, Any]]:
        """Return a row per class, and one of their mean."""
        if not self.cases:
            return []
        counts = self.counts
        entries: list[tuple[int | str, str, Any]] = [
            (int(value), row["name"], row) for value, row in self.summary["classes"].items()
        ]
        mean = {**self.summary["mean"], **{key: counts[key] for key in ("missed", "spurious", "both_empty")}}
        rows = []
        for value, name, row in [*entries, ("mean", "mean over classes", mean)]:
            true = row["with_truth"] or {}
            rows.append(
                {
                    "label": value,
                    "class": name,
                    "counted": row.get("counted", row.get("classes")),
                    "cases": row["cases"],
                    "cases_with_truth": row["cases_with_truth"],
                    **{key: row[key] for key in ("missed", "spurious", "both_empty")},
                    **{key: row[key]["mean"] for key in METRICS},
                    **{f"{key}_with_truth": true[key]["mean"] if true else None for key in METRICS},
                }
            )
        return rows

    def to_nnunet(self, folder: Path | None = None) -> dict[str, Any]:
        """Return nnU-Net's ``summary.json`` (``metric_per_case``, ``mean``, ``foreground_mean``), with more metrics.

        They are HD95, NSD, and in means the Dice over the ``cases_with_truth`` alone (None where there are none).

        Files are named relative to ``folder``, if given. A class that a case does not have follows the rule for empty
        masks, so that no mean is ever NaN; ``foreground_mean`` is over the classes that occur in some mask.
        """
        per_case = [
            {
                "metrics": {
                    self._nnunet_key(value): {key: row[ours] for key, ours in _NNUNET_KEYS.items()}
                    for value, row in case.metrics.items()
                },
                "prediction_file": _name_file(case.prediction_file, folder, shared=True),
                "reference_file": _name_file(case.truth_file, folder, shared=True),
            }
            for case in self.cases
        ]
        labels = self.labels if self.cases else ()
        means = {value: _mean([case.metrics[value] for case in self.cases]) for value in labels}
        mean: dict[str, Any] = {
            self._nnunet_key(value): {**row, **_true_dice(self.summary["classes"][str(value)])}
            for value, row in means.items()
        }
        counted = [means[value] for value in (self.cases[0].counted if self.cases else ())]
        foreground: dict[str, Any] = (
            {key: float(np.mean([row[key] for row in counted])) for key in _NNUNET_KEYS}
            | _true_dice(self.summary["mean"])
            if counted
            else {}
        )
        return {"metric_per_case": per_case, "mean": mean, "foreground_mean": foreground}

    def _nnunet_key(self, value: int) -> str:
        """Return a label's value, or a region's labels as nnU-Net writes them: ``(1, 2, 3)``."""
        return str(self.regions.get(value, value))


def _average(rows: Sequence[ClassMetrics]) -> dict[str, float]:
    return {key: float(np.mean([float(row[key]) for row in rows])) for key in METRICS}


def _true_dice(row: Mapping[str, Any]) -> dict[str, Any]:
    true = row["with_truth"]
    return {"Dice_with_truth": true["dsc"]["mean"] if true else None, "cases_with_truth": row["cases_with_truth"]}


def _write_json(file: Path, tree: Mapping[str, Any]) -> None:
    with atomic_write(file) as path:
        path.write_text(dump_json(tree) + "\n", encoding="utf-8")


def _mean(rows: Sequence[ClassMetrics]) -> dict[str, float]:
    return {key: float(np.mean([float(row[ours]) for row in rows])) for key, ours in _NNUNET_KEYS.items()}


def _name_file(file: Path, folder: Path | None, shared: bool) -> str:
    # Relative where it lies below, so that a run folder can be moved with its masks.
    path = file.absolute()
    if folder is None:
        return str(path)
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return name_beside(file, folder) if shared else str(path)
