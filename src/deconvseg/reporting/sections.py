"""What a report says about one evaluation: numbers, pictures and chosen cases."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvseg.data import LabelMap, align_white, read_image, read_mask
from deconvseg.errors import DeconvsegError
from deconvseg.reporting.charts import draw_dice_distribution, draw_volume_agreement
from deconvseg.reporting.overlay import CaseViews, case_views
from deconvseg.reporting.records import EvaluationRecord
from deconvseg.reporting.style import figure_uri, pixels_uri

DASH = "–"
_DIGITS = {"dsc": 3, "hd95": 2, "nsd": 3}


def describe_evaluation(record: EvaluationRecord) -> dict[str, Any]:
    """Return what the page's section on an evaluation shows; pictures as data URIs."""
    tree, cases = record.tree, record.tree["cases"]
    dims = len(cases[0]["shape"]) if cases else 3
    unit = tree["unit"] if tree["unit"] == "mm" else "voxels" if dims == 3 else "pixels"
    summary = tree["summary"]
    return {
        "title": record.title,
        "unit": unit,
        "tolerance": f"{tree['tolerance']:g} {unit.removesuffix('s') if tree['tolerance'] == 1 else unit}",
        "counts": tree["counts"],
        "size": "area" if dims == 2 else "volume",
        "cards": [_describe_metric(key, summary["mean"][key]) for key in _DIGITS] if cases else [],
        "classes": [_describe_row(row["name"], row) for row in summary["classes"].values()] if cases else [],
        "mean": _describe_row("mean over classes", summary["mean"]) if len(tree["labels"]) > 1 and cases else None,
        "folds": _describe_folds(tree),
        "charts": _draw_charts(cases, tree["labels"], unit, dims) if cases else [],
        "panels": [_describe_panel(record, rank, case) for rank, case in choose_cases(cases)],
        "cases": [_describe_case(case) for case in sorted(cases, key=_mean_dice)],
        "problems": tree.get("problems", []),
        "warnings": tree.get("warnings", []),
    }


def choose_cases(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the best, the median and the worst case by mean Dice, none twice."""
    ordered = sorted(cases, key=lambda case: (-case["mean"]["dsc"], case["name"]))
    if len(ordered) < 3:
        return list(zip(("Best", "Worst") if len(ordered) == 2 else ("Only case",), ordered, strict=False))
    return [("Best", ordered[0]), ("Median", ordered[len(ordered) // 2]), ("Worst", ordered[-1])]


def format_interval(statistics: Mapping[str, Any], digits: int) -> str:
    """Return a 95 % confidence interval, or a dash where one case gives none."""
    if statistics["ci95"] is None:
        return DASH
    low, high = statistics["ci95"]
    return f"{low:.{digits}f} – {high:.{digits}f}"


def _mean_dice(case: Mapping[str, Any]) -> float:
    return float(case["mean"]["dsc"])


def _describe_metric(key: str, statistics: Mapping[str, Any]) -> dict[str, str]:
    digits = _DIGITS[key]
    return {
        "key": key,
        "mean": f"{statistics['mean']:.{digits}f}",
        "interval": format_interval(statistics, digits),
        "median": f"{statistics['median']:.{digits}f}",
        "std": _number(statistics["std"], digits),
    }


def _describe_row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    counts = {key: row.get(key) for key in ("missed", "spurious", "both_empty")}
    return {"name": name, "metrics": [_describe_metric(key, row[key]) for key in _DIGITS], **counts}


def _describe_folds(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the table of a cross-validation: each class in each fold, and the spread over folds and cases."""
    spread = tree.get("spread")
    if not spread:
        return None
    rows = [(row["name"], row["dsc"]) for row in spread["classes"].values()]
    rows += [("mean over classes", spread["mean"]["dsc"])] if len(rows) > 1 else []
    post = tree.get("postprocessing") or {}
    gains = [
        f"{name} {row['before']:.4f} → {row['after']:.4f}" for name, row in post.get("dice_by_other_folds", {}).items()
    ]
    return {
        "names": [f"fold {entry['fold']}" for entry in tree["folds"] if entry["cases"]],
        "rows": [
            {
                "name": name,
                "values": [f"{mean:.3f}" for mean in dice["fold_means"]],
                "spread": [f"{dice['mean']:.3f}", *(_number(dice[key], 3) for key in ("std_folds", "std_cases"))],
            }
            for name, dice in rows
        ],
        "steps": post.get("steps", []),
        "gains": gains,
    }


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def _describe_case(case: Mapping[str, Any]) -> dict[str, Any]:
    odd = [f"{row['name']} {row['status']}" for row in case["classes"].values() if row["status"] != "ok"]
    values = [f"{case['mean'][key]:.{digits}f}" for key, digits in _DIGITS.items()]
    return {"name": case["name"], "values": values, "remarks": ", ".join(odd)}


def _draw_charts(
    cases: Sequence[Mapping[str, Any]], labels: Mapping[str, str], unit: str, dims: int
) -> list[dict[str, str]]:
    volume_unit = unit + ("²" if dims == 2 else "³") if unit == "mm" else unit
    distribution = draw_dice_distribution(cases, labels)
    volumes = draw_volume_agreement(cases, labels, volume_unit)
    return [
        {"uri": figure_uri(distribution), "text": "Dice of every case, by class, with quartiles and mean"},
        {"uri": figure_uri(volumes), "text": "Bland-Altman plot of predicted and true sizes"},
    ]


def _describe_panel(record: EvaluationRecord, rank: str, case: Mapping[str, Any]) -> dict[str, Any]:
    panel: dict[str, Any] = {"rank": rank, **_describe_case(case), "note": "", "views": []}
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
    truth, prediction = (
        read_mask(record.resolve(case[key]), foreground=bool(record.tree.get("foreground"))).canonical()
        for key in ("truth_file", "prediction_file")
    )
    pixels = [mask.pixels for mask in (truth, prediction)]
    ignore = record.tree.get("ignore_label")
    if ignore is not None and pixels[0].shape == pixels[1].shape:
        pixels = [np.where(truth.pixels == ignore, 0, part) for part in pixels]
    first, second = (_paint_classes(record, part) for part in pixels)
    return LabelMap(first, truth.geometry), LabelMap(second, prediction.geometry)


def _paint_classes(record: EvaluationRecord, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if record.tree.get("foreground"):
        return (pixels > 0).astype(np.uint8)
    labels, regions = record.tree["labels"], record.tree.get("regions")
    if not regions and len(labels) == 1:
        pixels = align_white(pixels, int(next(iter(labels))))
    if not regions:
        return np.where(np.isin(pixels, [int(value) for value in labels]), pixels, 0)
    painted = np.zeros(pixels.shape, np.int64)
    for value in labels:
        painted[np.isin(pixels, regions.get(value, [int(value)]))] = int(value)
    return painted
