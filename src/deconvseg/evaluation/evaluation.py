"""The result of an evaluation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from deconvseg.data import MaskSource
from deconvseg.evaluation import nnunet, writing
from deconvseg.evaluation.definition import MetricInfo
from deconvseg.evaluation.empty_masks import Policy
from deconvseg.evaluation.lesions import LesionRule
from deconvseg.evaluation.measuring import ClassMetrics, Measuring
from deconvseg.evaluation.metrics import DEFAULT_METRICS, choose_shown
from deconvseg.evaluation.summary import ScoreTable, count_statuses, mean_of_rows, summarize


@dataclass(frozen=True)
class CaseMetrics:
    """The metrics of one case by label value, with its grid, files, predicted labels and ignored voxels.

    ``truth_source`` is the source of the true mask if it is not simply ``truth_file``. ``aligned`` is true if its masks
    store their single class with different values. ``counted`` are the label values included in means over classes, and
    ``keys`` the metrics that are averaged; the :class:`Evaluation` of the case sets both.
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
    keys: tuple[str, ...] = DEFAULT_METRICS
    truth_source: MaskSource | None = None

    @property
    def true_mask(self) -> Path | MaskSource:
        """The source of the true mask for `deconvseg.data.read_mask_pair`."""
        return self.truth_source or self.truth_file

    @property
    def mean(self) -> dict[str, float | None]:
        """The metrics averaged over the counted classes; None for a metric that is dropped in all of them."""
        return mean_of_rows([self.metrics[value] for value in self.counted or self.metrics], self.keys)

    @property
    def mean_with_truth(self) -> dict[str, float | None] | None:
        """The metrics averaged over the classes that the true mask has; None for an empty true mask."""
        rows = [row for value, row in self.metrics.items() if self.has_truth(value)]
        return mean_of_rows(rows, self.keys) if rows else None

    def has_truth(self, value: int) -> bool:
        """Return whether the true mask has this class."""
        return self.metrics[value]["status"] in ("ok", "missed")


def name_unit(unit: str, dims: int) -> str:
    """Return the unit of distances for readers: voxels of a picture are pixels."""
    return unit if unit != "voxel" else "pixels" if dims == 2 else "voxels"


@dataclass(frozen=True)
class Evaluation:
    """Metrics of many cases; ``problems`` has a line for each case that could not be evaluated, with the reason.

    ``missing`` are cases without a prediction, ``unmatched`` predictions without a true mask. ``origin`` names the
    compared files and the run of the predictions, as returned by :func:`~deconvseg.evaluation.origin.find_origin`.
    ``regions`` are the label values of classes that are unions, in the order of writing; ``region_files`` is true if
    each region was scored from its own file, not from the mask in which all are painted. ``grid`` is "image", or "plan"
    if masks were resampled to the grid of a plan, whose entries are in ``plan_grid``; shapes and spacings of cases are
    those of the grid. ``unit`` is the unit of distances ("mm", or "voxel" of that grid); volumes are in its cube (2D:
    areas in its square). ``metrics`` are the summarised metrics, Dice first; ``empty`` is the policy for empty masks.
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
    metrics: tuple[MetricInfo, ...] = field(default_factory=lambda: Measuring.choose().infos)
    empty: Policy = "diagonal"
    lesions: LesionRule = field(default_factory=LesionRule)
    grid: str = "image"
    plan_grid: Mapping[str, Any] = field(default_factory=dict)
    region_files: bool = False

    def __post_init__(self) -> None:
        """Set in every case the classes that occur in any mask of the whole set, over which its mean is taken."""
        if self.cases and self.labels:
            keys = tuple(metric.key for metric in self.metrics)
            table = ScoreTable([case.metrics for case in self.cases], self.labels, keys)
            counted = tuple(value for value, use in zip(self.labels, table.counted, strict=True) if use)
            cases = tuple(replace(case, counted=counted, keys=keys) for case in self.cases)
            object.__setattr__(self, "cases", cases)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Statistics per class ("classes") and over classes ("mean"), as returned by :func:`summarize`."""
        return summarize([case.metrics for case in self.cases], self.labels, self.metrics)

    @property
    def shown_metrics(self) -> tuple[MetricInfo, ...]:
        """The metrics for tables: by default without those that have the values of another metric in all cases."""
        return choose_shown(self.metrics, self.dropped)

    @property
    def distance_unit(self) -> str:
        """The unit of distances for readers: "mm", "voxels", or "pixels" for pictures."""
        return name_unit(self.unit, len(self.cases[0].shape) if self.cases else 3)

    @property
    def mean_dice(self) -> float:
        """The mean over cases of the mean Dice over classes; 0 without an evaluated case, NaN if all are dropped."""
        if not self.cases:
            return 0.0
        mean = self.summary["mean"]["dsc"]["mean"]
        return math.nan if mean is None else float(mean)

    @property
    def dice_with_truth(self) -> float | None:
        """The mean Dice of the cases whose true mask is not empty, over the classes it has; None if all are empty."""
        found = self.summary["mean"].get("with_truth")
        return float(found["dsc"]["mean"]) if found else None

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of cases evaluated, missing or failed, and of masks missed, spurious or both empty.

        Each counted class of a case is one mask: ``with_truth_masks`` can be missed, ``without_truth_masks`` spurious.
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

    @cached_property
    def dropped(self) -> dict[str, int]:
        """The number of values of each metric, for the counted classes of all cases, that the policy drops."""
        rows = [case.metrics[value] for case in self.cases for value in case.counted]
        return {metric.key: sum(row[metric.key] is None for row in rows) for metric in self.metrics}

    def describe(self) -> str:
        """Return one line: the mean Dice, the structures missed and the false alarms.

        The mean Dice of cases with truth is given where it differs, false alarms where a true mask lacks a class.
        """
        cases = f"{len(self.cases)} case{'' if len(self.cases) == 1 else 's'}"
        if dropped := self.summary["mean"]["dsc"]["dropped"] if self.cases else 0:
            cases = f"{len(self.cases) - dropped} of {cases} (the others are dropped)"
        mean = "–" if math.isnan(self.mean_dice) else f"{self.mean_dice:.3f}"
        text = f"mean Dice {mean} over {cases}"
        counts, absent = self.counts, self.summary["mean"].get("absent_classes", 0)
        if absent:
            text += f" and {len(self.labels) - absent} of {len(self.labels)} classes (the others are in no mask)"
        if self.dice_with_truth is None:
            return f"{text}, none of which has a structure in its true mask"
        parts = []
        if (true := f"{self.dice_with_truth:.3f}") != mean or counts["cases_with_truth"] < len(self.cases):
            parts.append(f"{true} over the {counts['cases_with_truth']} with a structure in the true mask")
        parts.append(f"{counts['missed']} of {counts['with_truth_masks']} structures missed")
        if counts["without_truth_masks"]:
            parts.append(f"{counts['spurious']} of {counts['without_truth_masks']} false alarms")
        return f"{text}; {', '.join(parts)}"

    def describe_dropped(self) -> str | None:
        """Return a line about the number of dropped values; None for policies that drop none."""
        if self.empty != "drop":
            return None
        total = sum(len(case.counted) for case in self.cases)
        numbers = ", ".join(f"{metric.title} {self.dropped[metric.key]}" for metric in self.metrics)
        return f"dropped for empty masks, of {total} values of a class in a case: {numbers}"

    def describe_grid(self) -> str | None:
        """Return a line about the plan's grid; None for that of the images."""
        if self.grid == "image":
            return None
        size = self.plan_grid.get("resize")
        grid = self.plan_grid.get("spacing") if size is None else size
        steps = " x ".join(f"{length:g}" for length in grid or ())
        text = f"spacing {steps} mm" if size is None else f"resized to {steps}"
        if (margin := self.plan_grid.get("crop_margin")) is not None:
            text = f"cropped to non-zero voxels with a margin of {margin}, {text}"
        return f"scored on the plan's grid: {text}"

    def describe_region_files(self) -> str | None:
        """Return a line about regions that have files of their own; None if they are scored as they are painted."""
        return "each region scored from its own file, not as painted in the mask" if self.region_files else None

    def to_json(self, folder: Path | None = None, *, shared: bool = False) -> dict[str, Any]:
        """Return the evaluation as plain types; files below ``folder`` (``shared``: all) are named relative to it."""
        return writing.to_json(self, folder, shared=shared)

    def write(self, output: Path, further: Mapping[str, Any] | None = None, *, shared: bool = False) -> None:
        """Write ``output`` (JSON, including ``further``), and next to it two CSV files and nnU-Net's summary.

        ``metrics.csv`` has a row per case and class, ``summary.csv`` one per class, and ``summary.json`` the structure
        of nnU-Net. If ``output`` has another name than ``metrics.json``, their names are prefixed with it. With
        ``shared`` (as in a run) no file is named by its absolute path.
        """
        writing.write(self, output, further or {}, shared=shared)

    def to_nnunet(self, folder: Path | None = None) -> dict[str, Any]:
        """Return nnU-Net's ``summary.json`` (``metric_per_case``, ``mean``, ``foreground_mean``), with more metrics.

        These are the chosen metrics, and in means also the Dice over only the ``cases_with_truth`` (None without any).

        Files are named relative to ``folder``, if given. Classes that a case does not have follow the policy for empty
        masks. Means are never NaN, but None if all values are dropped; ``foreground_mean`` is over the classes that
        occur in any mask.
        """
        return nnunet.to_nnunet(self, folder)
