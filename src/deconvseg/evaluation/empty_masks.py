"""Values of metrics for empty masks, and the policies that choose among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

from deconvseg.errors import check_choice
from deconvseg.evaluation.pair import Status

if TYPE_CHECKING:
    from deconvseg.evaluation.definition import MetricInfo

Policy = Literal["diagonal", "brats", "drop"]
# A number, the image's diagonal, or the result of the metric's function; None means that the case is dropped.
EmptyValue = float | Literal["diagonal", "computed"]

POLICIES: tuple[Policy, ...] = get_args(Policy)
# The diagonal of BraTS images (240 x 240 x 155 voxels of 1 mm), which is their HD95 of a missed or spurious region.
BRATS_PENALTY = math.hypot(240, 240, 155)
EMPTY_STATUSES: tuple[Status, ...] = ("both empty", "missed", "spurious")


@dataclass(frozen=True)
class EmptyCases:
    """Values of a metric for empty masks: ``both``, only the prediction (``missed``), only the truth (``spurious``).

    Each value is a number, "diagonal" (the image's diagonal; 373.13 under the policy "brats"), "computed" (by the
    metric's function) or None (no value under any policy, so that the case is dropped from means). ``undefined`` lists
    the cases in which the formula has no value and MONAI gives NaN: the policy "drop" excludes these from means.

    Example:
        >>> from deconvseg.evaluation import EmptyCases
        >>> empty = EmptyCases(both=0.0, missed="diagonal", spurious="diagonal", undefined=("missed", "spurious"))
        >>> empty.value("both empty", "diagonal"), empty.value("missed", "diagonal")
        (0.0, 'diagonal')

    """

    both: EmptyValue | None
    missed: EmptyValue | None
    spurious: EmptyValue | None
    undefined: tuple[Status, ...] = ()

    def value(self, status: Status, policy: Policy) -> EmptyValue | None:
        """Return the value for a status under a policy; None if it is dropped."""
        if policy == "drop" and status in self.undefined:
            return None
        value = {"both empty": self.both, "missed": self.missed, "spurious": self.spurious}[status]
        return BRATS_PENALTY if policy == "brats" and value == "diagonal" else value


def check_policy(policy: str) -> Policy:
    """Return the policy for empty masks; :class:`InputError` for an unknown name."""
    check_choice(policy, POLICIES, "policy for empty masks")
    return cast(Policy, policy)


def describe_empty(metrics: Sequence[MetricInfo]) -> dict[str, str]:
    """Return a sentence for each status of empty masks with the value of each metric."""
    words = {None: "dropped", "diagonal": "the diagonal of the image", "computed": "as computed"}

    def show(value: EmptyValue | None) -> str:
        return words[value] if value is None or isinstance(value, str) else f"{value:.6g}"

    heads = {
        "both empty": "",
        "missed": "the truth is there, the prediction is empty: ",
        "spurious": "the truth is empty, the prediction is not: ",
    }
    return {
        status: head + ", ".join(f"{metric.title} {show(metric.empty.get(status))}" for metric in metrics)
        for status, head in heads.items()
    }
