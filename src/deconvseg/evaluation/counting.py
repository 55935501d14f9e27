"""Tables of counts of metrics, such as found and missed lesions, summed over cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.evaluation.definition import MetricInfo


@dataclass(frozen=True)
class CountTable:
    """The sums of a metric's counts: a row for each class and group of counts, and the metric of the sums."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tabulate_counts(metrics: Sequence[MetricInfo], summary: Mapping[str, Any]) -> list[CountTable]:
    """Return a table for each metric with counts: the counted classes of a summary, and all of them together."""
    entries = [(row["name"], row) for row in summary["classes"].values() if row["counted"]]
    if len(entries) > 1:
        entries.append(("all classes", summary["mean"]))
    return [_tabulate(metric, entries) for metric in metrics if metric.counts and entries]


def _tabulate(metric: MetricInfo, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> CountTable:
    names = list(dict.fromkeys(count.name for count in metric.counts))
    groups: dict[str, dict[str, str]] = {}
    for count in metric.counts:
        groups.setdefault(count.group, {})[count.name] = count.column
    pooled = all("pooled" in row[metric.key] for _, row in entries)
    rows = []
    for name, row in entries:
        found = row[metric.key]
        for group, columns in groups.items():
            cells = [str(found["totals"][columns[key]]) if key in columns else "–" for key in names]
            if pooled:
                value = found["pooled"][group]
                cells.append("–" if value is None else f"{value:.{metric.digits}f}")
            rows.append((name if group == "all" else f"{name}, {group}", *cells))
    heads = ("class", *names, *([metric.title] if pooled else []))
    return CountTable(f"{metric.title}: counts of all cases together", heads, tuple(rows))
