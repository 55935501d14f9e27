"""Convert an evaluation to the structure of nnU-Net's ``summary.json``, for scripts that read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvseg.evaluation.metrics import ALWAYS_MEASURED
from deconvseg.evaluation.registry import list_metrics
from deconvseg.evaluation.summary import mean_of_rows
from deconvseg.evaluation.writing import name_file

if TYPE_CHECKING:
    from deconvseg.evaluation.evaluation import Evaluation
    from deconvseg.evaluation.measuring import ClassMetrics

_COUNTS = {"TP": "tp", "FP": "fp", "FN": "fn", "TN": "tn", "n_pred": "n_prediction", "n_ref": "n_truth"}


def to_nnunet(evaluation: Evaluation, folder: Path | None) -> dict[str, Any]:
    """Return an evaluation as documented in :meth:`Evaluation.to_nnunet`."""
    keys = _name_columns(evaluation)
    per_case = [
        {
            "metrics": {
                _name_class(evaluation, value): {key: row[ours] for key, ours in keys.items()}
                for value, row in case.metrics.items()
            },
            "prediction_file": name_file(case.prediction_file, folder, shared=True),
            "reference_file": name_file(case.truth_file, folder, shared=True),
        }
        for case in evaluation.cases
    ]
    labels = evaluation.labels if evaluation.cases else ()
    means = {value: _mean([case.metrics[value] for case in evaluation.cases], keys) for value in labels}
    mean: dict[str, Any] = {
        _name_class(evaluation, value): {**row, **_true_dice(evaluation.summary["classes"][str(value)])}
        for value, row in means.items()
    }
    counted = [means[value] for value in (evaluation.cases[0].counted if evaluation.cases else ())]
    foreground = mean_of_rows(counted, keys) | _true_dice(evaluation.summary["mean"]) if counted else {}
    return {"metric_per_case": per_case, "mean": mean, "foreground_mean": foreground}


def _name_columns(evaluation: Evaluation) -> dict[str, str]:
    """Return our column for each key of nnU-Net, and for further metrics by their titles."""
    always = {metric.title: metric.key for metric in list_metrics() if metric.key in ALWAYS_MEASURED}
    return {**always, **_COUNTS, **{metric.title: metric.key for metric in evaluation.metrics}}


def _name_class(evaluation: Evaluation, value: int) -> str:
    """Return a label's value, or a region's labels as nnU-Net writes them: ``(1, 2, 3)``."""
    return str(evaluation.regions.get(value, value))


def _mean(rows: Sequence[ClassMetrics], keys: Mapping[str, str]) -> ClassMetrics:
    means = mean_of_rows(rows, keys.values())
    return {key: means[ours] for key, ours in keys.items()}


def _true_dice(row: Mapping[str, Any]) -> dict[str, Any]:
    true = row["with_truth"]
    return {"Dice_with_truth": true["dsc"]["mean"] if true else None, "cases_with_truth": row["cases_with_truth"]}
