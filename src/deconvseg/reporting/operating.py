"""The sections of the report on thresholds and on doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvseg.errors import InputError
from deconvseg.evaluation import OperatingPoints, mark_row, read_operating_points, table_rows
from deconvseg.evaluation.correlation import Correlation, spearman
from deconvseg.evaluation.operating import StructurePoints
from deconvseg.evaluation.origin import last_records
from deconvseg.reporting.records import EvaluationRecord
from deconvseg.reporting.rendering import Section
from deconvseg.reporting.style import INK, MUTED, SERIES, add_legend, figure_uri, new_figure, style_axes
from deconvseg.runs import PREDICTIONS, format_threshold, read_threshold

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASH = "–"
# The most structures with a chart; the others have tables only.
_MOST_DRAWN = 8
_KEYS = ("dice", "sensitivity", "precision", "lesion_sensitivity", "lesion_precision", "false_per_case")


def threshold_sections(folder: Path) -> Iterator[Section]:
    """Yield the section on a run's operating points; nothing if it has none, such as a run of an earlier version."""
    try:
        points, chosen = read_operating_points(folder), read_threshold(folder)
    except InputError as error:
        yield Section("thresholds", "Thresholds", "thresholds", {"problem": str(error)})
        return
    if points is None:
        return
    structures = [
        _describe_structure(
            *(points, structure, None if chosen is None else chosen.of(structure.name, at_half=structure.at_half)),
            drawn=place < _MOST_DRAWN,
        )
        for place, structure in enumerate(points.structures)
    ]
    content = {
        "problem": None,
        "structures": structures,
        "cases": points.cases,
        "out_of_fold": points.source == "out-of-fold",
        "chosen": None if chosen is None else f"{format_threshold(chosen.threshold)} ({chosen.how})",
        "left_out": list(points.left_out),
    }
    yield Section("thresholds", "Thresholds", "thresholds", content)


def draw_operating_points(points: OperatingPoints, structure: StructurePoints, chosen: float | None) -> Figure:
    """Return a figure of Dice, sensitivity and precision of a structure against its threshold.

    If any case has several lesions, a second panel shows the share of lesions found, their precision, and the number of
    false lesions per case. Lines mark the default, the best Dice, and the ``chosen`` threshold.
    """
    figure = new_figure(10.4 if structure.many_lesions else 5.8, 3.5)
    panels = figure.subplots(1, 2 if structure.many_lesions else 1, squeeze=False)[0]
    curve = structure.curve
    columns = {
        "Dice (mean over cases)": curve.dice,
        "sensitivity (all voxels)": curve.sensitivity,
        "precision (all voxels)": curve.precision,
    }
    _draw_curves(panels[0], points.thresholds, columns)
    if not structure.at_half:
        default = structure.default.dice[0]
        panels[0].axhline(default, color=MUTED, linewidth=1.0, linestyle=":", label="Dice of the default")
    if structure.many_lesions:
        lesions = {"lesions found": curve.lesion_sensitivity, "precision of lesions": curve.lesion_precision}
        _draw_curves(panels[1], points.lesion_thresholds, lesions)
        _draw_false(panels[1], points, structure)
    for axes, title in zip(panels, ("Voxels", "Lesions"), strict=False):
        _mark(axes, points, structure, chosen)
        style_axes(axes, title, "threshold")
        add_legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1.6)
    return figure


def _draw_curves(axes: Any, thresholds: Sequence[float], columns: Mapping[str, Sequence[float | None]]) -> None:
    for colour, (name, values) in zip(SERIES, columns.items(), strict=False):
        numbers = [float("nan") if value is None else value for value in values]
        axes.plot(thresholds, numbers, color=colour, linewidth=1.6, label=name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)


def _draw_false(axes: Any, points: OperatingPoints, structure: StructurePoints) -> None:
    other = axes.twinx()
    false = [count / points.cases for count in structure.curve.false]
    other.plot(points.lesion_thresholds, false, color=SERIES[3], linewidth=1.2, linestyle="dashed")
    axes.plot([], [], color=SERIES[3], linewidth=1.2, linestyle="dashed", label="false lesions a case (right)")
    other.set_ylim(0, max([*false, 1]) * 1.05)
    other.tick_params(labelsize=8.5, colors=SERIES[3], length=0)
    for side in ("top", "left", "right", "bottom"):
        other.spines[side].set_visible(False)


def _mark(axes: Any, points: OperatingPoints, structure: StructurePoints, chosen: float | None) -> None:
    best = next(row["threshold"] for row in table_rows(points, structure) if row["best"])
    marks: list[tuple[float, str, str, Any]] = [(best, "best Dice", MUTED, (0, (4, 3)))]
    if structure.at_half:
        marks.append((0.5, "default", MUTED, ":"))
    if chosen is not None:
        marks.append((chosen, "chosen", INK, "-"))
    for place, name, colour, style in marks:
        axes.axvline(place, color=colour, linewidth=1.0, linestyle=style, label=f"{name} {place:g}")


def _describe_structure(
    points: OperatingPoints, structure: StructurePoints, chosen: float | None, *, drawn: bool
) -> dict[str, Any]:
    rows = []
    for row in table_rows(points, structure, [] if chosen is None else [chosen]):
        threshold = row["threshold"]
        rows.append(
            {
                "threshold": "default" if threshold is None else f"{threshold:g}",
                "cells": [_number(row[key]) for key in (_KEYS if structure.many_lesions else _KEYS[:3])],
                "marks": mark_row(row, "best Dice"),
            }
        )
    chart = figure_uri(draw_operating_points(points, structure, chosen)) if drawn else None
    return {
        "name": structure.name,
        "chart": chart,
        "wide": structure.many_lesions,
        "rows": rows,
        "with_truth": structure.cases_with_truth,
        "at_half": structure.at_half,
        "lesions": structure.many_lesions,
    }


def doubt_sections(folder: Path, records: Sequence[EvaluationRecord]) -> Iterator[Section]:
    """Yield a section for each evaluation whose predictions recorded their doubt."""
    try:
        points = read_operating_points(folder)
    except InputError:
        # The section on thresholds reports the problem.
        points = None
    limit = None if points is None else points.doubt_limit
    for number, record in enumerate(records, 1):
        rows = _doubts_of(record)
        if not rows:
            continue
        scored = [(row["score"], row["dice"]) for row in rows if row["dice"] is not None]
        found = spearman(*zip(*scored, strict=True)) if scored else None
        title = "Doubt" if len(records) == 1 else f"Doubt: {record.title}"
        content = {
            "rows": [_describe_doubt(row, None if record.foreign else limit) for row in rows],
            "several": any(row["disagreement"] is not None for row in rows),
            "limit": None if limit is None or record.foreign else f"{limit:.3f}",
            "correlation": None if found is None else _describe_correlation(found),
            "chart": figure_uri(draw_doubt(scored, None if record.foreign else limit)) if len(scored) > 2 else None,
        }
        yield Section(f"doubt-{number}", title, "doubt", content)


def draw_doubt(pairs: Sequence[tuple[float, float]], limit: float | None) -> Figure:
    """Return a figure of Dice against doubt, one point per case; a line marks the ``limit``."""
    figure = new_figure(5.8, 3.2)
    axes = figure.subplots()
    doubts, dice = zip(*pairs, strict=True)
    axes.scatter(doubts, dice, s=18, color=SERIES[0], alpha=0.65, linewidths=0)
    if limit is not None:
        axes.axvline(limit, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    style_axes(axes, "Dice against doubt, case by case", "doubt", "Dice")
    return figure


def _doubts_of(record: EvaluationRecord) -> list[dict[str, Any]]:
    """Return the cases with a recorded doubt and their Dice, the most doubtful first."""
    known: dict[Path, dict[str, Any]] = {}
    rows = []
    for case in record.tree["cases"]:
        mask = record.resolve(case["prediction_file"])
        # The records of a BIDS derivative are in its root, up to three folders above the mask.
        folder = next((each for each in islice(mask.parents, 4) if (each / PREDICTIONS).is_file()), mask.parent)
        if folder not in known:
            known[folder] = _read_doubts(folder)
        doubt = known[folder].get(mask.relative_to(folder).as_posix())
        if doubt is not None:
            true = case["mean_with_truth"] or case["mean"]
            rows.append({"name": case["name"], "dice": true["dsc"], **doubt})
    return sorted(rows, key=lambda row: (-row["score"], row["name"]))


def _read_doubts(folder: Path) -> dict[str, Any]:
    """Return the doubt in the last record of each mask in a folder; damaged ones are left out."""
    found = {}
    for mask, record in last_records(folder).items():
        try:
            doubt = record["doubt"]
            numbers = {key: doubt[key] for key in ("score", "entropy", "largest_foreground", "disagreement")}
            if all(value is None or isinstance(value, int | float) for value in numbers.values()):
                found[mask] = {**numbers, "score": float(doubt["score"])}
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _describe_doubt(row: Mapping[str, Any], limit: float | None) -> dict[str, Any]:
    return {
        "name": row["name"],
        "cells": [_number(row["score"]), _number(row["disagreement"]), _number(row["dice"])],
        "remark": ", ".join(
            text
            for text, told in (
                ("doubtful", limit is not None and row["score"] > limit),
                ("empty mask", row["entropy"] is None),
            )
            if told
        ),
    }


def _describe_correlation(found: Correlation) -> str:
    interval = "" if found.ci95 is None else f", 95 % CI {found.ci95[0]:.2f} to {found.ci95[1]:.2f}"
    return f"ρ = {found.rho:.2f} (n = {found.n}{interval})".replace("-", "−")


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
