"""The difference between the Dice shown during training and that of the finished masks, and its reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from deconvseg.data import list_names, resampled_shape
from deconvseg.evaluation import CaseMetrics, Evaluation
from deconvseg.planning import Plan

# Values closer than this are displayed as equal.
_SAME = 0.0005


def compare_with_training(rows: Sequence[Mapping[str, Any]], result: Evaluation, plan: Plan) -> str | None:
    """Explain the difference between the last validation during training and the evaluation.

    ``rows`` are the epochs' metrics; for the best weights, the best validation is compared. None if both values are the
    same, or if no epoch was validated.
    """
    validated = [row for row in rows if row["val_dice"] is not None]
    if not validated:
        return None
    best = plan.recipe.weights == "best"
    last = max(validated, key=lambda row: row["val_dice"]) if best else validated[-1]
    count = last.get("val_cases", len(result.cases))
    fewer = count < last.get("val_cases_of", count)
    if not fewer and abs(last["val_dice"] - result.mean_dice) < _SAME:
        return None
    reasons = []
    if not best and last["epoch"] < rows[-1]["epoch"]:
        reasons.append(f"by the weights of that epoch, not of the last ({rows[-1]['epoch']})")
    if any(_is_resampled(case, plan) for case in result.cases):
        reasons.append(f"on the network's grid ({_describe_grid(plan)}), not on the masks'")
    rows_of = result.summary["classes"].values() if result.cases else ()
    predicted = [row["name"] for row in rows_of if row["counted"] and not row["cases_with_truth"]]
    if predicted and result.dice_with_truth is not None:
        reasons.append(f"without the classes that are predicted and in no true mask ({list_names(predicted)})")
    over = f"{count} of these cases" if fewer else "these cases"
    text = f"while training it was Dice {last['val_dice']:.3f} over {over} (epoch {last['epoch'] + 1})"
    if fewer:
        text += ", which the recipe's validation_cases chose"
    return "; ".join([text, *reasons])


def _describe_grid(plan: Plan) -> str:
    if plan.resize is not None:
        return f"{' x '.join(map(str, plan.resize))} {'pixels' if plan.spatial_dims == 2 else 'voxels'}"
    return f"{' x '.join(f'{side:g}' for side in plan.spacing)}{' mm' if plan.spatial_dims == 3 else ''}"


def _is_resampled(case: CaseMetrics, plan: Plan) -> bool:
    if plan.resize is not None:
        return True
    # The order of axes, and thus the axis of the largest spacing, differs between files.
    spacing, wanted = sorted(case.spacing), sorted(plan.spacing)
    return resampled_shape([1000] * len(wanted), spacing, wanted) != (1000,) * len(wanted)
