"""Paired comparison of two sets of masks of the same cases: differences of a metric, intervals and tests."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.evaluation.definition import Better
from deconvseg.evaluation.summary import Scores, describe_columns


@dataclass(frozen=True)
class PairedDifference:
    """Difference (second minus first) of a metric over the ``n`` cases in which both have a value.

    ``mean`` has the 95 % percentile bootstrap interval ``ci95``; ``p`` is the p-value of Wilcoxon's two-sided
    signed-rank test (None for fewer than two cases, 1 if no case differs), and ``p_holm`` the same after Holm's
    correction. ``better`` and ``worse`` are the numbers of cases in which the second is better or worse by the metric.
    """

    n: int
    mean: float | None
    ci95: tuple[float, float] | None
    p: float | None
    better: int
    worse: int
    equal: int
    p_holm: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return {**asdict(self), "ci95": list(self.ci95) if self.ci95 else None}


def compare_paired(first: Sequence[float], second: Sequence[float], better: Better = "higher") -> PairedDifference:
    """Return the paired difference of two series of a metric over the same cases; NaN means no value.

    ``better`` is the direction of better values: "higher", "lower" or near "zero".

    Example:
        >>> from deconvseg.evaluation import compare_paired
        >>> found = compare_paired([0.5, 0.6, 0.7], [0.6, 0.6, 0.9])
        >>> round(found.mean, 3), found.better, found.worse, found.equal
        (0.1, 2, 0, 1)

    """
    pair: Scores = np.array([first, second], dtype=float)
    one, other = pair[:, ~np.isnan(pair).any(axis=0)]
    difference = other - one
    gain = {"higher": difference, "lower": -difference, "zero": np.abs(one) - np.abs(other)}[better]
    statistics = describe_columns(difference[:, None])[0] if len(difference) else {"mean": None, "ci95": None}
    interval = statistics["ci95"]
    return PairedDifference(
        n=len(difference),
        mean=statistics["mean"],
        ci95=tuple(interval) if interval else None,
        p=_signed_rank(difference),
        better=int((gain > 0).sum()),
        worse=int((gain < 0).sum()),
        equal=int((gain == 0).sum()),
    )


def _signed_rank(difference: npt.NDArray[np.float64]) -> float | None:
    from scipy.stats import wilcoxon

    if len(difference) < 2:
        return None
    if not difference.any():
        return 1.0
    return float(wilcoxon(difference).pvalue)


def correct_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p-values corrected for multiple comparisons by Holm's step-down procedure (Scand J Stat 1979).

    The smallest of m is multiplied by m, the next by m - 1 and so on; corrected values never decrease in this order and
    are at most 1. None is kept and not counted as a comparison.

    Example:
        >>> from deconvseg.evaluation import correct_holm
        >>> correct_holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    """
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        corrected[place] = largest
    return corrected
