"""Means over classes and cases with bootstrap confidence intervals, for all parts of the package."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.evaluation.definition import Metric, MetricInfo
from deconvseg.evaluation.measuring import ClassMetrics
from deconvseg.evaluation.metrics import DEFAULT_METRICS
from deconvseg.evaluation.registry import choose_metrics, find_metric

_RESAMPLES, _SEED = 10_000, 0
_CHUNK = 500

Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


def counted_classes(occurs: Flags) -> Flags:
    """Return which classes (K) enter a mean over classes, given which occur in the masks of each case (cases, K).

    A class that occurs in no case is excluded, because it would score 1 everywhere and raise the mean. If no class
    occurs in any case, all are kept, and the policy for empty masks applies.
    """
    found: Flags = np.any(occurs, axis=0, keepdims=True)[0]
    if not found.any():
        found[:] = True
    return found


def mean_over_classes(scores: Scores, counted: Flags) -> Scores:
    """Return the mean (cases, ...) over the counted classes (K) of scores (cases, K, ...); NaN means no score."""
    return _mean_of_known(scores[:, counted])


def mean_over_true_classes(scores: Scores, in_truth: Flags) -> Scores:
    """Return the mean (cases, ...) of scores (cases, K, ...) over the classes of each true mask; NaN where it is empty.

    ``in_truth`` (cases, K) is true for the classes of each true mask. NaN means no score.
    """
    inside = in_truth.reshape(*in_truth.shape, *(1,) * (scores.ndim - 2))
    return _mean_of_known(np.where(inside, scores, np.nan))


def _mean_of_known(scores: Scores) -> Scores:
    known = ~np.isnan(scores)
    totals, counts = np.where(known, scores, 0.0).sum(axis=1), known.sum(axis=1)
    means: Scores = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
    return means


def mean_of_rows(rows: Sequence[ClassMetrics], keys: Iterable[str]) -> dict[str, float | None]:
    """Return the mean of each column over rows that have a value; None if no row has."""
    means: dict[str, float | None] = {}
    for key in keys:
        values = [float(value) for row in rows if (value := row[key]) is not None]
        means[key] = float(np.mean(values)) if values else None
    return means


class ScoreTable:
    """The metrics of cases as arrays: ``scores`` (cases, K, metrics), NaN for dropped values.

    ``in_truth`` (cases, K) is true for the classes of each true mask, ``counted`` (K) for classes included in means.
    """

    def __init__(
        self, cases: Sequence[Mapping[int, ClassMetrics]], labels: Mapping[int, str], keys: Sequence[str]
    ) -> None:
        shape = len(cases), len(labels)
        rows = [[case[value] for value in labels] for case in cases]
        # None becomes NaN.
        self.scores = np.array([[[row[key] for key in keys] for row in case] for case in rows], dtype=float).reshape(
            *shape, len(keys)
        )
        statuses = np.array([[row["status"] for row in case] for case in rows], dtype=object).reshape(shape)
        self.in_truth: Flags = (statuses == "ok") | (statuses == "missed")
        self.counted = counted_classes(statuses != "both empty") if labels else np.zeros(0, bool)

    @property
    def means(self) -> Scores:
        """The mean (cases, metrics) over the counted classes."""
        return mean_over_classes(self.scores, self.counted)

    @property
    def true_means(self) -> Scores:
        """The mean (cases, metrics) over the classes of each true mask, NaN for an empty true mask."""
        return mean_over_true_classes(self.scores, self.in_truth)


def summarize(
    cases: Sequence[Mapping[int, ClassMetrics]],
    labels: Mapping[int, str],
    metrics: Sequence[Metric | MetricInfo] | None = None,
) -> dict[str, Any]:
    """Return ``{"classes": {value: {...}}, "mean": {...}}``: statistics per class and of the cases' means.

    Each of the ``metrics`` (DSC, HD95 and NSD) has ``mean``, ``median``, ``std`` (n - 1) and ``ci95``, the percentile
    bootstrap interval of the mean over 10,000 resamples of the cases with a fixed seed; for a single case the last two
    are None. ``cases`` have a value and ``dropped`` have none, by the policy for empty masks. A metric with counts
    has their sums as ``totals``, and for each group of counts the metric of these sums as ``pooled``. ``with_truth``
    has the same statistics over only the ``cases_with_truth``, None without any; for the mean, over the classes that
    each true mask has. A class also has its ``name``, the numbers of cases that are ``both_empty``, ``missed`` and
    ``spurious``, and whether it is ``counted`` in the mean over classes: a class that occurs in no mask is not. The
    mean has the numbers of ``classes`` included and of ``absent_classes``.
    """
    if not cases:
        return {"classes": {}, "mean": {}}
    chosen = choose_metrics(None, DEFAULT_METRICS) if metrics is None else metrics
    keys = [metric.key for metric in chosen]
    table = ScoreTable(cases, labels, keys)
    everywhere = np.concatenate([table.scores, table.means[:, None]], axis=1)
    in_truth = np.concatenate([table.in_truth, table.in_truth.any(axis=1, keepdims=True)], axis=1)
    where_true = np.concatenate([table.scores, table.true_means[:, None]], axis=1)
    where_true = np.where(in_truth[:, :, None], where_true, np.nan)
    columns = np.stack([everywhere, where_true], axis=2)
    belongs = np.stack([np.ones_like(in_truth), in_truth], axis=2)[..., None] & np.ones(len(keys), bool)
    found = iter(_statistics(columns.reshape(len(cases), -1), belongs.reshape(len(cases), -1).sum(axis=0)))
    rows = []
    for with_truth in in_truth.sum(axis=0).tolist():
        statistics, true_statistics = ({key: next(found) for key in keys} for _ in range(2))
        true = true_statistics if with_truth else None
        rows.append({"cases_with_truth": with_truth, **statistics, "with_truth": true})
    counted_values = [value for value, use in zip(labels, table.counted, strict=True) if use]
    for row, values in zip(rows, [*([value] for value in labels), counted_values], strict=True):
        for info in chosen:
            if isinstance(info, MetricInfo) and info.counts:
                row[info.key] |= _sum_counts(info, [case[value] for case in cases for value in values])
    classes = {
        str(value): {
            "name": name,
            "cases": len(cases),
            "counted": bool(counted),
            **count_statuses([case[value] for case in cases]),
            **row,
        }
        for (value, name), counted, row in zip(labels.items(), table.counted, rows, strict=False)
    }
    counted = int(table.counted.sum())
    sizes = {"cases": len(cases), "classes": counted, "absent_classes": len(labels) - counted}
    return {"classes": classes, "mean": {**sizes, **rows[-1]}}


def _sum_counts(info: MetricInfo, rows: Sequence[ClassMetrics]) -> dict[str, Any]:
    """Return the sums of a metric's counts by column, and the metric of these sums by group."""
    totals = {count.column: sum(int(row[count.column] or 0) for row in rows) for count in info.counts}
    groups: dict[str, dict[str, int]] = {}
    for count in info.counts:
        groups.setdefault(count.group, {})[count.name] = totals[count.column]
    metric = find_metric(info.key)
    if metric is None or metric.pooled is None:
        return {"totals": totals}
    return {"totals": totals, "pooled": {group: metric.pool(sums) for group, sums in groups.items()}}


def count_statuses(classes: Sequence[ClassMetrics]) -> dict[str, int]:
    """Return how often the class was in neither mask, only in the truth, and only in the prediction."""
    found = Counter(str(metrics["status"]) for metrics in classes)
    return {"both_empty": found["both empty"], "missed": found["missed"], "spurious": found["spurious"]}


def describe_columns(columns: Scores) -> list[dict[str, Any]]:
    """Return ``mean``, ``median``, ``std`` and ``ci95`` of every column of (cases, columns), as :func:`summarize` does.

    NaN means no value; ``dropped`` is the number of NaN, ``cases`` that of the others.
    """
    return _statistics(columns, np.full(columns.shape[1], len(columns)))


def _statistics(columns: Scores, members: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """Describe every column of (cases, columns) with ``members`` cases each; NaN means no value."""
    n = len(columns)
    belongs = ~np.isnan(columns)
    bounds = _bootstrap(columns, belongs) if n > 1 else np.full((2, columns.shape[1]), np.nan)
    rows = []
    for column, inside, (low, high), size in zip(columns.T, belongs.T, bounds.T, members, strict=True):
        values = column[inside]
        several = len(values) > 1
        rows.append(
            {
                "mean": float(values.mean()) if len(values) else None,
                "median": float(np.median(values)) if len(values) else None,
                "std": float(values.std(ddof=1)) if several else None,
                "ci95": [float(low), float(high)] if several else None,
                "cases": len(values),
                "dropped": int(size) - len(values),
            }
        )
    return rows


def _bootstrap(columns: Scores, belongs: Flags) -> Scores:
    """Return the 2.5th and 97.5th percentile (2, columns) of resampled means."""
    n = len(columns)
    values, weights = np.where(belongs, columns, 0.0), belongs.astype(float)
    rng = np.random.default_rng(_SEED)
    whole = belongs.all(axis=0)
    resampled = []
    for _ in range(_RESAMPLES // _CHUNK):
        # Only the number of times that each case is drawn matters for a resample.
        shares = rng.multinomial(n, np.full(n, 1 / n), _CHUNK) / n
        sums = shares @ values
        drawn = shares @ weights[:, ~whole]
        with np.errstate(invalid="ignore"):
            sums[:, ~whole] /= drawn
        resampled.append(sums)
    means = np.concatenate(resampled)
    bounds: Scores = np.quantile(means, (0.025, 0.975), axis=0)
    # A resample may contain no case of a rare class.
    for place in np.flatnonzero(np.isnan(bounds).any(axis=0)):
        known = means[~np.isnan(means[:, place]), place]
        if len(known):
            bounds[:, place] = np.quantile(known, (0.025, 0.975))
    return bounds
