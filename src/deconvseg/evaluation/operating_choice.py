"""Choose thresholds by operating points, and the points for a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from deconvseg.errors import InputError
from deconvseg.evaluation.operating import OperatingPoints, Points, StructurePoints

_NAN = float("nan")


def choose_thresholds(
    points: OperatingPoints,
    names: Sequence[str],
    how: Literal["dice", "sensitivity", "lesion_sensitivity"],
    wanted: float = _NAN,
) -> dict[str, float]:
    """Return for each named structure the threshold with the best mean Dice, or the largest with enough sensitivity.

    Ties in Dice resolve to the threshold nearest to 0.5. ``wanted`` is the sensitivity: the share of the true voxels,
    or of the true lesions, of all cases together. Raises :class:`InputError` if no threshold reaches it.

    Example:
        >>> from deconvseg.evaluation import choose_thresholds, read_operating_points
        >>> chosen = choose_thresholds(read_operating_points("RUN"), ["disc"], "dice")
        >>> 0 < chosen["disc"] < 1
        True

    """
    chosen = {}
    for name in names:
        curve = points.structure(name).curve
        if how == "dice":
            best = max(curve.dice)
            ties = [t for t, dice in zip(points.thresholds, curve.dice, strict=True) if dice == best]
            chosen[name] = min(ties, key=lambda t: abs(t - 0.5))
            continue
        lesions = how == "lesion_sensitivity"
        rates = curve.lesion_sensitivity if lesions else curve.sensitivity
        grid = points.lesion_thresholds if lesions else points.thresholds
        reached = [t for t, rate in zip(grid, rates, strict=True) if rate is not None and rate >= wanted]
        if not reached:
            best_rate = max((rate for rate in rates if rate is not None), default=None)
            most = (
                "no true mask has this class"
                if best_rate is None
                else f"the highest is {best_rate:.3f}, at {grid[0]:g}"
            )
            raise InputError(f"{name}: no threshold has a sensitivity of {wanted:g} on these cases; {most}")
        chosen[name] = max(reached)
    return chosen


def table_rows(
    points: OperatingPoints, structure: StructurePoints, also: Sequence[float] = ()
) -> list[Mapping[str, Any]]:
    """Return some operating points of a structure: the default, tenths, the best Dice, and those nearest to ``also``.

    Each has ``threshold`` (None for the default), ``dice``, ``sensitivity``, ``precision``, ``lesion_sensitivity``,
    ``lesion_precision`` and ``false_per_case``, ``best``, and ``also``: the number of ``also`` that it is nearest to.

    Example:
        >>> from deconvseg.evaluation import read_operating_points, table_rows
        >>> points = read_operating_points("RUN")
        >>> rows = table_rows(points, points.structures[0])
        >>> [row["threshold"] for row in rows if not row["best"]][:2]
        [None, 0.1]

    """
    best = choose_thresholds(points, [structure.name], "dice")[structure.name]
    nearest = {min(points.thresholds, key=lambda each: abs(each - number)): number for number in also}
    rows: list[Mapping[str, Any]] = [{**_row(structure.default, 0, 0, points.cases, None, best=False), "also": None}]
    for place, threshold in enumerate(points.thresholds):
        if (place + 1) % 10 and threshold not in (best, *nearest):
            continue
        lesion = points.lesion_thresholds.index(threshold) if threshold in points.lesion_thresholds else None
        row = _row(structure.curve, place, lesion, points.cases, threshold, best=threshold == best)
        rows.append({**row, "also": nearest.get(threshold)})
    return rows


def mark_row(row: Mapping[str, Any], best: str = "best") -> str:
    """Return the remark on a row of :func:`table_rows`: the ``best`` one, the chosen one, or the one nearest to it.

    Example:
        >>> from deconvseg.evaluation import mark_row
        >>> mark_row({"threshold": 0.33, "best": True, "also": 0.333})
        'best, nearest to the chosen 0.333'

    """
    own = row["also"]
    chosen = "" if own is None else "chosen" if own == row["threshold"] else f"nearest to the chosen {own:g}"
    return ", ".join(filter(None, (best if row["best"] else "", chosen)))


def _row(
    points: Points, place: int, lesion: int | None, cases: int, threshold: float | None, *, best: bool
) -> Mapping[str, Any]:
    counted = lesion is not None
    return {
        "threshold": threshold,
        "best": best,
        "dice": points.dice[place],
        "sensitivity": points.sensitivity[place],
        "precision": points.precision[place],
        "lesion_sensitivity": points.lesion_sensitivity[lesion] if lesion is not None else None,
        "lesion_precision": points.lesion_precision[lesion] if lesion is not None else None,
        "false_per_case": points.false[lesion] / cases if counted and lesion is not None else None,
    }
