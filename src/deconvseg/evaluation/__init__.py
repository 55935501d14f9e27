"""Evaluation of masks: metrics per case and class, with defined values for empty masks."""

from deconvseg.evaluation.comparing import PairedDifference, compare_paired, correct_holm
from deconvseg.evaluation.definition import Count, Metric
from deconvseg.evaluation.empty_masks import EmptyCases
from deconvseg.evaluation.evaluate import evaluate
from deconvseg.evaluation.evaluation import CaseMetrics, Evaluation
from deconvseg.evaluation.functions import (
    average_surface_distance,
    count_lesions,
    dice,
    hausdorff95,
    normalized_surface_dice,
)
from deconvseg.evaluation.masks import evaluate_masks
from deconvseg.evaluation.merging import merge_evaluations, read_evaluation
from deconvseg.evaluation.operating import OperatingPoints, merge_operating_points, read_operating_points
from deconvseg.evaluation.operating_choice import choose_thresholds, mark_row, table_rows
from deconvseg.evaluation.operating_tally import PointsTally
from deconvseg.evaluation.pair import MaskPair
from deconvseg.evaluation.registry import list_metrics, register_metric, unregister_metric

__all__ = [
    "CaseMetrics",
    "Count",
    "EmptyCases",
    "Evaluation",
    "MaskPair",
    "Metric",
    "OperatingPoints",
    "PairedDifference",
    "PointsTally",
    "average_surface_distance",
    "choose_thresholds",
    "compare_paired",
    "correct_holm",
    "count_lesions",
    "dice",
    "evaluate",
    "evaluate_masks",
    "hausdorff95",
    "list_metrics",
    "mark_row",
    "merge_evaluations",
    "merge_operating_points",
    "normalized_surface_dice",
    "read_evaluation",
    "read_operating_points",
    "register_metric",
    "table_rows",
    "unregister_metric",
]
