"""Statistics over cases, per class and over classes, with bootstrap confidence intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.evaluation.masks import ClassMetrics

METRICS = ("dsc", "hd95", "nsd")
_RESAMPLES, _SEED = 10_000, 0
_CHUNK = 500


def summarize(cases: Sequence[Mapping[int, ClassMetrics]], labels: Mapping[int, str]) -> dict[str, Any]:
    """Return ``{"classes": {value: {...}}, "mean": {...}}``: statistics per class and of the cases' means.

    Each metric has ``mean``, ``median``, ``std`` (n - 1) and ``ci95``, the percentile bootstrap interval of
    the mean over 10,000 resamples of the cases with a fixed seed; of one case alone the last two are None. A
    class also has its ``name`` and how many cases were ``both_empty``, ``missed`` and ``spurious``.
    """
    if not cases:
        return {"classes": {}, "mean": {}}
    values = np.array(
        [[[case[value][metric] for metric in METRICS] for value in labels] for case in cases], dtype=float
    )
    table = np.concatenate([values, values.mean(axis=1, keepdims=True)], axis=1)
    rows = _statistics(table.reshape(len(cases), -1))
    per_class = [
        dict(zip(METRICS, rows[start : start + len(METRICS)], strict=True))
        for start in range(0, len(rows), len(METRICS))
    ]
    classes = {
        str(value): {
            "name": name,
            "cases": len(cases),
            **count_statuses([case[value] for case in cases]),
            **metrics,
        }
        for (value, name), metrics in zip(labels.items(), per_class, strict=False)
    }
    return {"classes": classes, "mean": {"cases": len(cases), **per_class[-1]}}


def count_statuses(classes: Sequence[ClassMetrics]) -> dict[str, int]:
    """Return how often neither mask had the class, only the truth had it, and only the prediction had it."""
    found = Counter(str(metrics["status"]) for metrics in classes)
    return {"both_empty": found["both empty"], "missed": found["missed"], "spurious": found["spurious"]}


def _statistics(columns: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Describe every column of (cases, columns)."""
    n = len(columns)
    means, medians = columns.mean(axis=0), np.median(columns, axis=0)
    if n < 2:
        return [
            {"mean": float(m), "median": float(d), "std": None, "ci95": None}
            for m, d in zip(means, medians, strict=True)
        ]
    deviations = columns.std(axis=0, ddof=1)
    rng = np.random.default_rng(_SEED)
    # A resample only enters through how often each case was drawn.
    resampled = [rng.multinomial(n, np.full(n, 1 / n), _CHUNK) / n @ columns for _ in range(_RESAMPLES // _CHUNK)]
    bounds = np.quantile(np.concatenate(resampled), (0.025, 0.975), axis=0)
    return [
        {"mean": float(m), "median": float(d), "std": float(s), "ci95": [float(low), float(high)]}
        for m, d, s, low, high in zip(means, medians, deviations, *bounds, strict=True)
    ]
