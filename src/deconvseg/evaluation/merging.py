"""Read evaluations from files and merge several evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import MaskSource, find_beside, list_names, read_json_object
from deconvseg.errors import InputError
from deconvseg.evaluation.cautions import caution_of_emptiness
from deconvseg.evaluation.definition import MetricInfo
from deconvseg.evaluation.empty_masks import Policy, check_policy
from deconvseg.evaluation.evaluation import CaseMetrics, Evaluation
from deconvseg.evaluation.lesions import LesionRule
from deconvseg.evaluation.measuring import ClassMetrics, Measuring
from deconvseg.evaluation.metrics import ALWAYS_MEASURED, FORMER_METRICS

_NUMBERS = (
    *("volume_truth", "volume_prediction", "volume_difference"),
    *("tp", "fp", "fn", "tn", "n_truth", "n_prediction"),
)
# What evaluations that are merged have in common, besides the unit.
_ALIKE = (
    *("labels", "regions", "tolerance", "foreground", "ignore_label", "metrics", "empty", "lesions"),
    *("grid", "plan_grid"),
)


def read_evaluation(path: str | PathLike[str]) -> Evaluation:
    """Read a file of :meth:`Evaluation.write`; :class:`InputError` if it is missing or not such a file.

    Example:
        >>> import deconvseg
        >>> from deconvseg.evaluation import read_evaluation
        >>> scores = deconvseg.evaluate("TRUTH", "MASKS", "metrics.json")
        >>> read_evaluation("metrics.json").mean_dice == scores.mean_dice
        True

    """
    path = Path(path)
    tree = read_json_object(path)
    if tree.get("version") != 1:
        raise InputError(f"{path}: not a metrics.json of version 1; write it by evaluate (`output`)")
    try:
        # Files of earlier versions do not list the metrics: they contain Dice, HD95 and NSD.
        given = tree.get("metrics")
        metrics = (
            Measuring.choose(FORMER_METRICS).infos if given is None else tuple(MetricInfo.parse(row) for row in given)
        )
        if [metric.key for metric in metrics][:1] != ["dsc"]:
            raise ValueError("the first metric is not dsc")
        empty = check_policy(tree.get("empty", "diagonal"))
        return Evaluation(
            cases=tuple(_read_case(row, path.parent, metrics, empty) for row in tree["cases"]),
            metrics=metrics,
            empty=empty,
            lesions=LesionRule(tree.get("lesion_overlap", 0.0), tuple(tree.get("lesion_sizes", ()))),
            labels={int(value): name for value, name in tree["labels"].items()},
            unit=tree["unit"],
            grid=_one_of(("image", "plan"), tree.get("grid", "image")),
            plan_grid=_read_grid(tree.get("plan_grid", {})),
            tolerance=tree["tolerance"],
            foreground=tree["foreground"],
            regions={int(value): tuple(members) for value, members in tree["regions"].items()},
            region_files=tree.get("region_files", False),
            ignore_label=tree["ignore_label"],
            split=tree["split"],
            missing=tuple(tree["missing"]),
            unmatched=tuple(tree.get("unmatched", ())),
            origin=dict(tree.get("origin", {})),
            problems=tuple(tree["problems"]),
            warnings=tuple(tree["warnings"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: not a metrics.json of version 1, or incomplete ({error!r}); write it by evaluate (`output`)"
        ) from error


def _one_of(known: Sequence[str], found: Any) -> str:
    if found not in known:
        raise ValueError(f"{found!r} is none of {known}")
    return str(found)


def _read_grid(found: Any) -> dict[str, Any]:
    """Return the entries of a plan that determine its grid, with lengths that are numbers."""
    grid = dict(found)
    for key in ("spacing", "resize"):
        if not all(_is_number(length) for length in grid.get(key) or ()):
            raise TypeError(f"{key} of plan_grid is {grid[key]!r}")
    return grid


def merge_evaluations(parts: Sequence[Evaluation], problems: Sequence[str] = ()) -> Evaluation:
    """Merge evaluations of different cases with the same classes and unit into one.

    ``problems`` are added to those of the parts. Raises :class:`InputError` if classes, unit or tolerance differ.

    Example:
        >>> import deconvseg
        >>> from deconvseg.evaluation import merge_evaluations
        >>> parts = [
        ...     deconvseg.evaluate("DATASET", "MASKS", splits="splits.json", split=split) for split in ("val", "test")
        ... ]
        >>> len(merge_evaluations(parts).cases)
        4

    """
    parts = _without_companions(parts)
    first = parts[0]
    for other in parts[1:]:
        for key in _ALIKE:
            one, another = (_show(part, key) for part in (first, other))
            if one != another:
                raise InputError(f"evaluations with {key} {one} and {another} cannot be joined; evaluate them alike")
    cases = tuple(sorted((case for part in parts for case in part.cases), key=lambda case: case.name))
    # A warning that every mask of a part is empty does not apply to the whole.
    kept = [
        text for part in parts for text in part.warnings if text not in caution_of_emptiness(part.cases, part.empty)
    ]
    if len({part.region_files for part in parts}) > 1:
        painted = [case.name for part in parts if not part.region_files for case in part.cases]
        kept.append(
            f"the regions of {list_names(painted)} are scored as they are painted in the mask, those of the other "
            "cases from files of their own; evaluate all alike"
        )
    return replace(
        first,
        unit=_common_unit(parts),
        cases=cases,
        missing=tuple(name for part in parts for name in part.missing),
        unmatched=tuple(name for part in parts for name in part.unmatched),
        origin={},
        region_files=all(part.region_files for part in parts),
        problems=(*(text for part in parts for text in part.problems), *problems),
        warnings=tuple(dict.fromkeys((*kept, *caution_of_emptiness(cases, first.empty)))),
    )


def _without_companions(parts: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """Leave out metrics that only stand beside others where a part, of an earlier version, lacks them."""
    common = set.intersection(*({metric.key for metric in part.metrics} for part in parts))
    return [
        replace(part, metrics=tuple(info for info in part.metrics if info.key in common or not info.beside))
        for part in parts
    ]


def _show(part: Evaluation, key: str) -> Any:
    return [metric.key for metric in part.metrics] if key == "metrics" else getattr(part, key)


def _common_unit(parts: Sequence[Evaluation]) -> str:
    units = {part.unit for part in parts}
    if len(units) == 1:
        return units.pop()
    # Files without a voxel size have unit spacing, so their numbers are equal in voxels and in mm.
    if any(set(case.spacing) != {1.0} for part in parts if part.unit == "voxel" for case in part.cases):
        raise InputError("evaluations in mm and in voxels cannot be joined; evaluate them alike")
    return "mm"


def _read_case(row: dict[str, Any], folder: Path, metrics: Sequence[MetricInfo], empty: Policy) -> CaseMetrics:
    return CaseMetrics(
        name=row["name"],
        shape=tuple(row["shape"]),
        spacing=tuple(row["spacing"]),
        metrics={int(value): _checked(scores, metrics, empty) for value, scores in row["classes"].items()},
        truth_file=find_beside(row["truth_file"], folder),
        prediction_file=find_beside(row["prediction_file"], folder),
        image_files=tuple(find_beside(file, folder) for file in row["image_files"]),
        truth_source=MaskSource.from_json(row["truth_source"], lambda file: find_beside(file, folder))
        if "truth_source" in row
        else None,
    )


def _checked(row: dict[str, Any], metrics: Sequence[MetricInfo], empty: Policy) -> ClassMetrics:
    """Return the checked scores of a class; `KeyError` for a missing score, `TypeError` for a non-numeric one."""
    counts = [count.column for metric in metrics for count in metric.counts]
    for key in (*_NUMBERS, *counts):
        if not _is_number(row[key]):
            raise TypeError(f"{key} is {row[key]!r}")
    drops = {metric.key for metric in metrics if metric.drops}
    for key in (*ALWAYS_MEASURED, *(metric.key for metric in metrics)):
        dropped = row[key] is None and (empty == "drop" or key in drops) and row["status"] != "ok"
        if not dropped and not _is_number(row[key]):
            raise TypeError(f"{key} is {row[key]!r}")
    if not all(isinstance(row[key], str) for key in ("name", "status")):
        raise TypeError(f"name and status are {row['name']!r} and {row['status']!r}")
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
