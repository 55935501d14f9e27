"""The section of a report on one evaluation: numbers, charts and selected cases."""

from collections.abc import Mapping
from typing import Any

from deconvseg.evaluation.definition import MetricInfo
from deconvseg.evaluation.empty_masks import describe_empty
from deconvseg.evaluation.evaluation import name_unit as evaluation_unit
from deconvseg.reporting.charts import draw_dice_distribution, draw_volume_agreement
from deconvseg.reporting.class_tables import (
    format_interval,
    format_number,
    head_metric,
    tabulate_cases,
    tabulate_classes,
    tabulate_folds,
    tabulate_totals,
)
from deconvseg.reporting.facts import describe_gain
from deconvseg.reporting.gallery import Showing, choose_cases, draw_panel
from deconvseg.reporting.records import EvaluationRecord
from deconvseg.reporting.style import figure_uri
from deconvseg.reporting.tables import DASH

# Fewer cases are too few for an analysis of agreement.
_FEWEST_FOR_AGREEMENT = 3
_ODD = ("missed", "spurious", "both empty")


def describe_evaluation(record: EvaluationRecord, showing: Showing | None = None) -> dict[str, Any]:
    """Return the content of the section on an evaluation; pictures are data URIs."""
    showing = Showing() if showing is None else showing
    tree, cases, metrics = record.tree, record.tree["cases"], record.shown
    unit = name_unit(tree)
    tolerance = f"{tree['tolerance']:g} {unit.removesuffix('s') if tree['tolerance'] == 1 else unit}"
    summary, colours = tree["summary"], showing.colours
    heads = [head_metric(metric, unit, tolerance) for metric in metrics]
    anchors = {case["name"]: f"{showing.anchor}-row-{number}" for number, case in enumerate(cases, 1)}
    panels = [
        _describe_panel(record, rank, case, showing, anchors[case["name"]], number)
        for number, (rank, case) in enumerate(choose_cases(cases, showing.worst), 1)
    ]
    links = {panel["name"]: panel["anchor"] for panel in panels}
    return {
        "anchor": showing.anchor,
        "title": f"{record.title} (another run)" if record.foreign else record.title,
        "source": "; ".join(filter(None, (record.source, record.grid, record.regions))),
        "foreign": record.foreign,
        "heads": heads,
        "names": [metric.title for metric in metrics],
        "units": [f" {unit}" if metric.unit == "length" else "" for metric in metrics],
        "counts": tree["counts"],
        "absent": [row["name"] for row in summary["classes"].values() if not row["counted"]],
        "cards": [_describe_metric(metric, summary["mean"][metric.key]) for metric in metrics] if cases else [],
        "with_truth": _describe_true(summary["mean"], metrics[0]) if cases else None,
        "classes": tabulate_classes(tree, metrics, heads, colours) if cases else None,
        "tables": tabulate_totals(tree, metrics, colours) if cases else [],
        "dropped": _describe_dropped(record),
        "meanings": [metric.meaning for metric in metrics if metric.meaning],
        "empty_masks": {**describe_empty(metrics), "drops": any(metric.drops for metric in metrics)},
        "folds": tabulate_folds(tree, colours),
        "postprocessing": _describe_postprocessing(tree),
        "charts": draw_charts(tree, colours) if cases else [],
        "panels": panels,
        "size": len(cases),
        "cases": tabulate_cases(tree, metrics, unit, links, anchors, colours) if cases else None,
        "problems": tree.get("problems", []),
        "seen": record.seen,
        "warnings": [text for text in tree.get("warnings", []) if text != record.seen],
    }


def name_unit(tree: Mapping[str, Any]) -> str:
    """Return the unit of the distances of an evaluation."""
    return evaluation_unit(str(tree["unit"]), len(tree["cases"][0]["shape"]) if tree["cases"] else 3)


def _describe_dropped(record: EvaluationRecord) -> str:
    """Return how many values of each metric the policy for empty masks drops; "" if none."""
    dropped = record.tree["dropped"]
    numbers = [f"{metric.title} {dropped[metric.key]}" for metric in record.shown if dropped[metric.key]]
    return ", ".join(numbers)


def _describe_metric(metric: MetricInfo, statistics: Mapping[str, Any]) -> dict[str, str]:
    return {
        "mean": format_number(statistics["mean"], metric.digits),
        "interval": format_interval(statistics, metric.digits),
    }


def _describe_true(row: Mapping[str, Any], leading: MetricInfo) -> dict[str, str]:
    """Return the leading metric, Dice, over cases with truth; a dash if there are none."""
    if row["with_truth"] is None:
        return {"mean": DASH, "interval": ""}
    return _describe_metric(leading, row["with_truth"][leading.key])


def _describe_postprocessing(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the steps that a cross-validation chose, and how they change the Dice of each structure."""
    post = tree.get("postprocessing") or {}
    if not (tree.get("spread") and post.get("dice_by_other_folds")):
        return None
    true_gains = post.get("with_truth_by_other_folds", {})
    gains = [
        describe_gain(name, _before_and_after(row), _before_and_after(true_gains[name]) if name in true_gains else None)
        for name, row in post["dice_by_other_folds"].items()
    ]
    return {"steps": post.get("steps", []), "gains": gains}


def _before_and_after(row: Mapping[str, Any]) -> tuple[float, float]:
    return float(row["before"]), float(row["after"])


def draw_charts(tree: Mapping[str, Any], colours: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the charts of an evaluation with their descriptions: Dice of all cases, agreement of sizes."""
    cases, unit = tree["cases"], name_unit(tree)
    labels = {value: row["name"] for value, row in tree["summary"]["classes"].items() if row["counted"]}
    dims = len(cases[0]["shape"])
    charts = []
    if any(case["mean_with_truth"] for case in cases):
        figure = draw_dice_distribution(cases, labels, colours)
        charts.append({"uri": figure_uri(figure), "text": "Dice of every case with truth, by class"})
    if len(cases) >= _FEWEST_FOR_AGREEMENT:
        volume_unit = unit + ("²" if dims == 2 else "³") if unit == "mm" else unit
        figure = draw_volume_agreement(cases, labels, volume_unit, colours)
        charts.append({"uri": figure_uri(figure), "text": "Bland-Altman plot of predicted and true sizes"})
    return charts


def _describe_panel(
    record: EvaluationRecord, rank: str, case: Mapping[str, Any], showing: Showing, row: str, number: int
) -> dict[str, Any]:
    metrics = record.shown
    true = case["mean_with_truth"]
    counted = {value for value, entry in record.tree["summary"]["classes"].items() if entry["counted"]}
    # Missed classes come first: among many classes, correctly empty ones would hide them.
    odd = [entry for value, entry in case["classes"].items() if entry["status"] in _ODD and value in counted]
    remarks = [f"{entry['name']} {entry['status']}" for entry in sorted(odd, key=_status_order)]
    more = f" and {len(remarks) - 8} more" if len(remarks) > 8 else ""
    return {
        "rank": rank,
        "name": case["name"],
        "anchor": f"{showing.anchor}-case-{number}",
        "row": row,
        # Of one case, a metric beside another says nothing more.
        "values": [
            "" if metric.beside else format_number(case["mean"][metric.key], metric.digits) for metric in metrics
        ],
        "with_truth": DASH if true is None else format_number(true["dsc"], metrics[0].digits),
        "remarks": ", ".join(remarks[:8]) + more,
        **draw_panel(record, case, showing),
    }


def _status_order(row: Mapping[str, Any]) -> int:
    return _ODD.index(row["status"])
