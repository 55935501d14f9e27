"""Write the files of an evaluation: JSON, tables by case and by class, and nnU-Net's summary."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvseg._version import __version__
from deconvseg.data import MaskSource, name_beside, write_table
from deconvseg.evaluation.empty_masks import describe_empty
from deconvseg.system import write_text
from deconvseg.text import dump_json

if TYPE_CHECKING:
    from deconvseg.evaluation.evaluation import Evaluation

_STATUSES = ("missed", "spurious", "both_empty")


def to_json(evaluation: Evaluation, folder: Path | None, *, shared: bool) -> dict[str, Any]:
    """Return an evaluation as plain types; files below ``folder`` (``shared``: all) are named relative to it."""
    return {
        "version": 1,
        "deconvseg": __version__,
        "unit": evaluation.unit,
        "grid": evaluation.grid,
        "plan_grid": dict(evaluation.plan_grid),
        "tolerance": evaluation.tolerance,
        "lesion_overlap": evaluation.lesions.overlap,
        "lesion_sizes": list(evaluation.lesions.sizes),
        "metrics": [metric.to_json() for metric in evaluation.metrics],
        "origin": dict(evaluation.origin),
        "foreground": evaluation.foreground,
        "split": evaluation.split,
        "empty": evaluation.empty,
        "empty_masks": describe_empty(evaluation.metrics),
        "dropped": evaluation.dropped,
        "labels": {str(value): name for value, name in evaluation.labels.items()},
        "regions": {str(value): list(members) for value, members in evaluation.regions.items()},
        "region_files": evaluation.region_files,
        "ignore_label": evaluation.ignore_label,
        "counts": evaluation.counts,
        "summary": evaluation.summary,
        "missing": list(evaluation.missing),
        "unmatched": list(evaluation.unmatched),
        "problems": list(evaluation.problems),
        "warnings": list(evaluation.warnings),
        "cases": [
            {
                "name": case.name,
                "shape": list(case.shape),
                "spacing": list(case.spacing),
                "truth_file": name_file(case.truth_file, folder, shared=shared),
                **_name_source(case.truth_source, folder, shared=shared),
                "prediction_file": name_file(case.prediction_file, folder, shared=shared),
                "image_files": [name_file(file, folder, shared=shared) for file in case.image_files],
                "mean": case.mean,
                "mean_with_truth": case.mean_with_truth,
                "classes": {str(value): dict(row) for value, row in case.metrics.items()},
            }
            for case in evaluation.cases
        ],
    }


def write(evaluation: Evaluation, output: Path, further: Mapping[str, Any], *, shared: bool) -> None:
    """Write the files of an evaluation as documented in :meth:`Evaluation.write`."""
    folder = output.parent.absolute()
    prefix = "" if output.stem == "metrics" else f"{output.stem}_"
    _write_json(output, {**to_json(evaluation, folder, shared=shared), **further})
    _write_json(output.with_name(f"{prefix}summary.json"), evaluation.to_nnunet(folder if shared else None))
    rows = [
        {
            "case": case.name,
            "label": value,
            **row,
            # Empty without truth, so that the mean of the column is the mean over cases with truth.
            "dsc_with_truth": row["dsc"] if case.has_truth(value) else None,
        }
        for case in evaluation.cases
        for value, row in case.metrics.items()
    ]
    write_table(output.with_suffix(".csv"), rows, ["case", "label"])
    write_table(output.with_name(f"{prefix}summary.csv"), _summary_rows(evaluation), ["label", "class"])


def _name_source(source: MaskSource | None, folder: Path | None, *, shared: bool) -> dict[str, Any]:
    """Return the source of a true mask if it is not a single unchanged file."""
    return {} if source is None else {"truth_source": source.to_json(partial(name_file, folder=folder, shared=shared))}


def name_file(file: Path, folder: Path | None, *, shared: bool) -> str:
    """Return the name of a file: relative to ``folder`` if it is below, so that both can be moved."""
    path = file.absolute()
    if folder is None:
        return str(path)
    if path.is_relative_to(folder):
        return path.relative_to(folder).as_posix()
    return name_beside(file, folder) if shared else str(path)


def _summary_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return a row per class and a row of their mean."""
    if not evaluation.cases:
        return []
    counts, keys = evaluation.counts, [metric.key for metric in evaluation.metrics]
    drops = [metric.key for metric in evaluation.metrics if metric.drops or evaluation.empty == "drop"]
    entries: list[tuple[int | str, str, Any]] = [
        (int(value), row["name"], row) for value, row in evaluation.summary["classes"].items()
    ]
    mean = {**evaluation.summary["mean"], **{key: counts[key] for key in _STATUSES}}
    rows = []
    for value, name, row in [*entries, ("mean", "mean over classes", mean)]:
        true = row["with_truth"] or {}
        dropped = {f"{key}_dropped": row[key]["dropped"] for key in drops}
        rows.append(
            {
                "label": value,
                "class": name,
                "counted": row.get("counted", row.get("classes")),
                "cases": row["cases"],
                "cases_with_truth": row["cases_with_truth"],
                **{key: row[key] for key in _STATUSES},
                **{key: row[key]["mean"] for key in keys},
                **{f"{key}_with_truth": true[key]["mean"] if true else None for key in keys},
                **dropped,
                **{column: total for key in keys for column, total in row[key].get("totals", {}).items()},
            }
        )
    return rows


def _write_json(file: Path, tree: Mapping[str, Any]) -> None:
    write_text(file, dump_json(tree) + "\n")
