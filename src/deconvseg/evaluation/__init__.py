"""How good masks are: metrics per case and class from one table, with stated values for empty masks."""

from deconvseg.evaluation.comparing import PairedDifference, compare_paired, correct_holm
from deconvseg.evaluation.evaluate import evaluate
from deconvseg.evaluation.evaluation import CaseMetrics, Evaluation
from deconvseg.evaluation.masks import evaluate_masks
from deconvseg.evaluation.merging import merge_evaluations, read_evaluation
from deconvseg.evaluation.metrics import (
    average_surface_distance,
    count_lesions,
    dice,
    hausdorff95,
    normalized_surface_dice,
)
from deconvseg.evaluation.pair import MaskPair
from deconvseg.evaluation.registry import Count, EmptyCases, Metric, list_metrics, register_metric, unregister_metric

__all__ = [
    "CaseMetrics",
    "Count",
    "EmptyCases",
    "Evaluation",
    "MaskPair",
    "Metric",
    "PairedDifference",
    "average_surface_distance",
    "compare_paired",
    "correct_holm",
    "count_lesions",
    "dice",
    "evaluate",
    "evaluate_masks",
    "hausdorff95",
    "list_metrics",
    "merge_evaluations",
    "normalized_surface_dice",
    "read_evaluation",
    "register_metric",
    "unregister_metric",
]
