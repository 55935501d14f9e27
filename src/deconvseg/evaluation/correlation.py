"""Rank correlation of two quantities over cases, with a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The quantile of the normal distribution that leaves 2.5 % above it.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of ``n`` pairs; ``ci95`` is None for fewer than 4 of them."""

    rho: float
    n: int
    ci95: tuple[float, float] | None


def spearman(first: Sequence[float], second: Sequence[float]) -> Correlation | None:
    """Return the rank correlation of two columns, with mean ranks for ties; None if one of them is constant.

    The interval is that of Fisher's transformation with the standard error of Bonett and Wright (2000),
    sqrt((1 + ρ²/2) / (n - 3)).

    Example:
        >>> from deconvseg.evaluation.correlation import spearman
        >>> found = spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7])
        >>> round(found.rho, 3), [round(end, 3) for end in found.ci95]
        (0.821, [-0.416, 0.992])

    """
    from scipy.stats import rankdata

    ranks = np.array([rankdata(first), rankdata(second)])
    n = ranks.shape[1]
    if n < 2 or not ranks.std(axis=1).all():
        return None
    rho = float(np.clip(np.corrcoef(ranks)[0, 1], -1, 1))
    if n < 4:
        return Correlation(rho, n, None)
    if abs(rho) == 1:
        return Correlation(rho, n, (rho, rho))
    width = _Z * math.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = math.atanh(rho)
    return Correlation(rho, n, (math.tanh(centre - width), math.tanh(centre + width)))
