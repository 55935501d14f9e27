"""What a report says about one evaluation: numbers, pictures and chosen cases."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import LabelMap, align_white, read_image, read_mask_pair
from deconvseg.errors import DeconvsegError
from deconvseg.evaluation.counting import tabulate_counts
from deconvseg.evaluation.registry import MetricInfo
from deconvseg.reporting.charts import draw_dice_distribution, draw_volume_agreement
from deconvseg.reporting.facts import describe_gain
from deconvseg.reporting.overlay import CaseViews, case_views
from deconvseg.reporting.records import EvaluationRecord
from deconvseg.reporting.style import figure_uri, pixels_uri

DASH = "–"
_ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}
_ODD = ("missed", "spurious", "both empty")


def describe_evaluation(record: EvaluationRecord) -> dict[str, Any]:
    """Return what the page's section on an evaluation shows; pictures as data URIs."""
    tree, cases, metrics = record.tree, record.tree["cases"], record.metrics
    dims = len(cases[0]["shape"]) if cases else 3
    unit = tree["unit"] if tree["unit"] == "mm" else "voxels" if dims == 3 else "pixels"
    summary = tree["summary"]
    tolerance = f"{tree['tolerance']:g} {unit.removesuffix('s') if tree['tolerance'] == 1 else unit}"
    return {
        "title": f"{record.title} (another run)" if record.foreign else record.title,
        "source": record.source,
        "foreign": record.foreign,
        "unit": unit,
        "heads": [_head(metric, unit, tolerance) for metric in metrics],
        "titles": [_head(metric, unit, "") for metric in metrics],
        "names": [metric.title for metric in metrics],
        "units": [f" {unit}" if metric.unit == "length" else "" for metric in metrics],
        "counts": tree["counts"],
        "absent": [row["name"] for row in summary["classes"].values() if not row["counted"]],
        "size": "area" if dims == 2 else "volume",
        "cards": [_describe_metric(metric, summary["mean"][metric.key]) for metric in metrics] if cases else [],
        "classes": [_describe_row(row["name"], row, metrics) for row in summary["classes"].values() if row["counted"]],
        "with_truth": _describe_true(summary["mean"], metrics[0]) if cases else None,
        "mean": _describe_mean(tree, metrics) if len(tree["labels"]) > 1 and cases else None,
        "tables": tabulate_counts(metrics, summary),
        "dropped": _describe_dropped(record),
        "meanings": [metric.meaning for metric in metrics if metric.meaning],
        "empty_masks": {**tree["empty_masks"], "drops": tree["empty"] == "drop"},
        "folds": _describe_folds(tree),
        "charts": _draw_charts(cases, _occurring_labels(tree), unit, dims) if cases else [],
        "panels": [_describe_panel(record, rank, case) for rank, case in choose_cases(cases)],
        "cases": [_describe_case(case, metrics) for case in sorted(cases, key=_mean_dice)],
        "problems": tree.get("problems", []),
        "warnings": tree.get("warnings", []),
    }


def choose_cases(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the best, the median and the worst case by their Dice over what their true masks have, none twice.

    They are chosen among the cases whose true mask is not empty, as an empty prediction of an empty mask has a Dice of
    1; among all where every true mask is empty. The largest false alarm in an empty one comes last.
    """
    true = [(mean, case) for case in cases if (mean := case.get("mean_with_truth", case["mean"]))]
    others = [case for case in cases if not case.get("mean_with_truth", case["mean"])]
    if not true:
        true, others = [(case["mean"], case) for case in cases], []
    ordered = [case for mean, case in sorted(true, key=_rank) if mean["dsc"] is not None]
    if len(ordered) < 3:
        names = ("Best", "Worst") if len(ordered) == 2 else ("Only case",) if not others else ("Only case with truth",)
        chosen = list(zip(names, ordered, strict=False))
    else:
        chosen = [("Best", ordered[0]), ("Median", ordered[len(ordered) // 2]), ("Worst", ordered[-1])]
    alarms = [case for case in others if _predicted_volume(case) > 0]
    return [*chosen, *(("Largest false alarm", case) for case in sorted(alarms, key=_predicted_volume)[-1:])]


def _rank(pair: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[float, str]:
    mean, case = pair
    return -(mean["dsc"] or 0.0), case["name"]


def _predicted_volume(case: Mapping[str, Any]) -> float:
    return sum(float(row["volume_prediction"]) for row in case["classes"].values())


def format_interval(statistics: Mapping[str, Any], digits: int) -> str:
    """Return a 95 % confidence interval, or a dash where one case gives none."""
    if statistics["ci95"] is None:
        return DASH
    low, high = statistics["ci95"]
    return f"{low:.{digits}f} – {high:.{digits}f}"


def _head(metric: MetricInfo, unit: str, tolerance: str) -> str:
    """Return the head of a metric's column: with its unit or tolerance, and which values are better."""
    arrow = _ARROWS.get(metric.better, "")
    if metric.unit == "length":
        return f"{metric.title} ({unit}) {arrow}"
    return f"{metric.title} at {tolerance} {arrow}" if metric.at_tolerance and tolerance else f"{metric.title} {arrow}"


def _mean_dice(case: Mapping[str, Any]) -> float:
    # Cases that are dropped come last.
    found = case["mean"]["dsc"]
    return float("inf") if found is None else float(found)


def _describe_dropped(record: EvaluationRecord) -> str:
    """Return how many values of each metric the policy for empty masks leaves out, "" where it leaves out none."""
    dropped = record.tree["dropped"]
    numbers = [f"{metric.title} {dropped[metric.key]}" for metric in record.metrics if dropped[metric.key]]
    return ", ".join(numbers)


def _describe_metric(metric: MetricInfo, statistics: Mapping[str, Any]) -> dict[str, str]:
    return {
        "key": metric.key,
        "mean": _number(statistics["mean"], metric.digits),
        "interval": format_interval(statistics, metric.digits),
        "median": _number(statistics["median"], metric.digits),
        "std": _number(statistics["std"], metric.digits),
    }


def _describe_row(name: str, row: Mapping[str, Any], metrics: Sequence[MetricInfo]) -> dict[str, Any]:
    with_truth = row["cases_with_truth"]
    return {
        "name": name,
        "metrics": [_describe_metric(metric, row[metric.key]) for metric in metrics],
        "with_truth": _describe_true(row, metrics[0]),
        "missed": f"{row['missed']} of {with_truth}",
        "spurious": f"{row['spurious']} of {row['cases'] - with_truth}",
        "both_empty": row["both_empty"],
    }


def _describe_mean(tree: Mapping[str, Any], metrics: Sequence[MetricInfo]) -> dict[str, Any]:
    """Return the row of the mean over classes, whose counts are those of all classes together."""
    mean, counts = tree["summary"]["mean"], tree["counts"]
    absent = mean["absent_classes"]
    name = f"mean over {mean['classes']} of {mean['classes'] + absent} classes" if absent else "mean over classes"
    row = _describe_row(name, {**mean, **{key: counts[key] for key in ("missed", "spurious", "both_empty")}}, metrics)
    return row | {
        "missed": f"{counts['missed']} of {counts['with_truth_masks']}",
        "spurious": f"{counts['spurious']} of {counts['without_truth_masks']}",
    }


def _describe_true(row: Mapping[str, Any], leading: MetricInfo) -> dict[str, str]:
    """Return the leading metric, Dice, over cases with truth, dashes where there are none."""
    if row["with_truth"] is None:
        return {"mean": DASH, "interval": DASH}
    return _describe_metric(leading, row["with_truth"][leading.key])


def _describe_folds(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the table of a cross-validation: each class in each fold, and the spread over folds and cases."""
    spread = tree.get("spread")
    if not spread:
        return None
    rows = [(row["name"], row["dsc"], row.get("with_truth")) for row in spread["classes"].values()]
    if len(rows) > 1:
        rows.append(("mean over classes", spread["mean"]["dsc"], spread["mean"].get("with_truth")))
    post = tree.get("postprocessing") or {}
    true_gains = post.get("with_truth_by_other_folds", {})
    gains = [
        describe_gain(name, _before_and_after(row), _before_and_after(true_gains[name]) if name in true_gains else None)
        for name, row in post.get("dice_by_other_folds", {}).items()
    ]
    return {
        "names": [f"fold {entry['fold']}" for entry in tree["folds"] if entry["cases"]],
        "rows": [
            {
                "name": name,
                "values": [_number(mean, 3) for mean in dice["fold_means"]],
                "spread": [_number(dice[key], 3) for key in ("mean", "std_folds", "std_cases")],
                "with_truth": DASH if true is None else _number(true["mean"], 3),
            }
            for name, dice, true in rows
        ],
        "steps": post.get("steps", []),
        "gains": gains,
    }


def _before_and_after(row: Mapping[str, Any]) -> tuple[float, float]:
    return float(row["before"]), float(row["after"])


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _describe_case(case: Mapping[str, Any], metrics: Sequence[MetricInfo]) -> dict[str, Any]:
    # What is missed comes first: among many classes, what is rightly empty would hide it.
    rows = sorted((row for row in case["classes"].values() if row["status"] in _ODD), key=_status_order)
    odd = [f"{row['name']} {row['status']}" for row in rows]
    values = [_number(case["mean"][metric.key], metric.digits) for metric in metrics]
    true = case["mean_with_truth"]
    with_truth = DASH if true is None else _number(true["dsc"], metrics[0].digits)
    return {"name": case["name"], "values": values, "with_truth": with_truth, "remarks": _list_briefly(odd)}


def _status_order(row: Mapping[str, Any]) -> int:
    return _ODD.index(row["status"])


def _list_briefly(remarks: Sequence[str], most: int = 8) -> str:
    more = f" and {len(remarks) - most} more" if len(remarks) > most else ""
    return ", ".join(remarks[:most]) + more


def _occurring_labels(tree: Mapping[str, Any]) -> dict[str, str]:
    return {value: row["name"] for value, row in tree["summary"]["classes"].items() if row["counted"]}


def _draw_charts(
    cases: Sequence[Mapping[str, Any]], labels: Mapping[str, str], unit: str, dims: int
) -> list[dict[str, str]]:
    volume_unit = unit + ("²" if dims == 2 else "³") if unit == "mm" else unit
    charts = []
    if any(case["mean_with_truth"] for case in cases):
        text = "Dice of every case with truth, by class, with quartiles and mean"
        charts.append({"uri": figure_uri(draw_dice_distribution(cases, labels)), "text": text})
    volumes = draw_volume_agreement(cases, labels, volume_unit)
    return [*charts, {"uri": figure_uri(volumes), "text": "Bland-Altman plot of predicted and true sizes"}]


def _describe_panel(record: EvaluationRecord, rank: str, case: Mapping[str, Any]) -> dict[str, Any]:
    panel: dict[str, Any] = {"rank": rank, **_describe_case(case, record.metrics), "note": "", "views": []}
    try:
        drawn, note = _draw_case(record, case)
    except DeconvsegError as error:
        return panel | {"note": f"No picture: {error}."}
    return panel | {
        "views": [{"name": name, "uri": pixels_uri(pixels)} for name, pixels in drawn.views.items()],
        "classes": drawn.classes,
        "errors": drawn.errors,
        "note": note,
    }


def _draw_case(record: EvaluationRecord, case: Mapping[str, Any]) -> tuple[CaseViews, str]:
    truth, prediction = _read_masks(record, case)
    notes = []
    image = None
    try:
        if case["image_files"]:
            files = [record.resolve(file) for file in case["image_files"]]
            found = read_image(files, channels_last=True).canonical()
            image = found.pixels if found.shape == truth.shape else None
            if found.channels > 1 and not (found.channels == 3 and truth.pixels.ndim == 2):
                notes.append(f"channel 1 of {found.channels}")
    except DeconvsegError as error:
        notes.append(f"without its image: {error}")
    if image is None and not notes:
        notes.append("masks only: the evaluation was not given the images")
    labels = {int(value): name for value, name in record.tree["labels"].items()}
    drawn = case_views(image, truth.pixels, prediction.pixels, spacing=truth.geometry.spacing, labels=labels)
    if drawn.slice is not None:
        notes.insert(0, f"axial slice {drawn.slice + 1} of {truth.shape[2]}, the patient's right on the left")
    if drawn.zoomed:
        notes.append("the frame in the image is what the other views show")
    return drawn, "; ".join(notes)


def _read_masks(record: EvaluationRecord, case: Mapping[str, Any]) -> tuple[LabelMap, LabelMap]:
    """Return truth and prediction as they are scored: without ignored voxels, regions painted in their order."""
    files = [record.resolve(case[key]) for key in ("truth_file", "prediction_file")]
    pair = read_mask_pair(files[0], files[1], foreground=bool(record.tree.get("foreground")))
    truth, prediction = (mask.canonical() for mask in pair)
    pixels = [mask.pixels for mask in (truth, prediction)]
    ignore = record.tree.get("ignore_label")
    if ignore is not None and pixels[0].shape == pixels[1].shape:
        pixels = [np.where(truth.pixels == ignore, 0, part) for part in pixels]
    first, second = (
        _paint_classes(record, part, mask.white) for part, mask in zip(pixels, (truth, prediction), strict=True)
    )
    return LabelMap(first, truth.geometry), LabelMap(second, prediction.geometry)


def _paint_classes(record: EvaluationRecord, pixels: npt.NDArray[Any], white: int | None) -> npt.NDArray[Any]:
    if record.tree.get("foreground"):
        return (pixels > 0).astype(np.uint8)
    labels, regions = record.tree["labels"], record.tree.get("regions")
    if not regions and len(labels) == 1:
        pixels = align_white(pixels, int(next(iter(labels))), white=white)
    if not regions:
        return np.where(np.isin(pixels, [int(value) for value in labels]), pixels, 0)
    painted = np.zeros(pixels.shape, np.int64)
    for value in labels:
        painted[np.isin(pixels, regions.get(value, [int(value)]))] = int(value)
    return painted
