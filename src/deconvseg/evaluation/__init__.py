"""How good masks are: DSC, HD95 and NSD per case and class, with one rule for empty masks."""

from deconvseg.evaluation.evaluate import evaluate
from deconvseg.evaluation.evaluation import CaseMetrics, Evaluation
from deconvseg.evaluation.masks import evaluate_masks
from deconvseg.evaluation.merging import merge_evaluations, read_evaluation
from deconvseg.evaluation.metrics import dice, hausdorff95, normalized_surface_dice

__all__ = [
    "CaseMetrics",
    "Evaluation",
    "dice",
    "evaluate",
    "evaluate_masks",
    "hausdorff95",
    "merge_evaluations",
    "normalized_surface_dice",
    "read_evaluation",
]
