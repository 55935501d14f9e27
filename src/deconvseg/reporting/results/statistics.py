"""What a table says of its scores: means over folds and seeds, ranks, intervals and paired tests."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deconvseg.evaluation.comparing import PairedDifference, compare_paired, correct_holm
from deconvseg.evaluation.summary import describe_columns
from deconvseg.reporting.results.model import ResultCell, ResultColumn, TableResult

BEST, SECOND = "best", "second"


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1) of a cell over the folds of all seeds, and the interval over its cases.

    ``ci95`` is the percentile bootstrap interval of the mean over the ``cases`` that are scored; ``case_mean`` is
    that mean, which differs from ``mean`` where folds have different numbers of cases. None means no value.
    """

    mean: float | None
    sd: float | None
    folds: int
    case_mean: float | None
    ci95: tuple[float, float] | None
    cases: int


@dataclass(frozen=True)
class PairedTest:
    """The paired difference of a row minus the ``reference`` row in one column, over their common cases."""

    column: str
    row: str
    reference: str
    difference: PairedDifference


def summarise(cell: ResultCell) -> Summary:
    """Return the statistics of a cell; they are None for a cell that is not done."""
    values = [score.value for score in cell.folds if score.value is not None]
    if cell.status != "done" or not values:
        return Summary(None, None, 0, None, None, 0)
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    cases = list(case_means(cell).values())
    found = describe_columns(np.array(cases)[:, None])[0] if cases else {"mean": None, "ci95": None}
    interval = found["ci95"]
    return Summary(
        float(np.mean(values)),
        sd,
        len(values),
        found["mean"],
        (interval[0], interval[1]) if interval else None,
        len(cases),
    )


def case_means(cell: ResultCell) -> dict[str, float]:
    """Return the score of each case, its mean over folds and seeds; cases without a value are left out."""
    found: dict[str, list[float]] = {}
    for score in cell.cases:
        if score.value is not None:
            found.setdefault(score.case, []).append(score.value)
    return {case: float(np.mean(values)) for case, values in found.items()}


def means(result: TableResult, column: ResultColumn) -> dict[str, float]:
    """Return the mean of every row that has one in a column."""
    found = {}
    for row in result.rows:
        cell = result.cell(row.key, column.key)
        if cell is not None and (mean := summarise(cell).mean) is not None:
            found[row.key] = mean
    return found


def published(result: TableResult, column: ResultColumn) -> dict[str, float]:
    """Return the published score of every row that has one in a column."""
    cells = [(row.key, result.cell(row.key, column.key)) for row in result.rows]
    return {key: cell.published.value for key, cell in cells if cell is not None and cell.published is not None}


def rank(values: Mapping[str, float], column: ResultColumn) -> dict[str, str]:
    """Return ``"best"`` and ``"second"`` by row, for values as they are printed; ties have the same rank.

    Fewer than two values have no ranks. Two best rows leave no second.
    """
    if len(values) < 2:
        return {}
    printed = {key: round(_worseness(value, column), column.digits) for key, value in values.items()}
    order = sorted(set(printed.values()))
    best = [key for key, value in printed.items() if value == order[0]]
    ranks = dict.fromkeys(best, BEST)
    if len(best) == 1 and len(order) > 1:
        ranks |= {key: SECOND for key, value in printed.items() if value == order[1]}
    return ranks


def _worseness(value: float, column: ResultColumn) -> float:
    measures: dict[str, Callable[[float], float]] = {
        "higher": lambda x: -x, "lower": lambda x: x, "zero": abs,
    }  # fmt: skip
    return measures[column.better](value)


def reference_row(result: TableResult, column: ResultColumn) -> str | None:
    """Return the row that the others are compared with: the result's reference, otherwise the best of the column."""
    found = means(result, column)
    if result.reference is not None:
        return result.reference if result.reference in found else None
    return min(found, key=lambda key: _worseness(found[key], column)) if found else None


def compare_rows(result: TableResult, column: ResultColumn) -> list[PairedTest]:
    """Return the paired tests of a column, row minus reference, corrected by Holm over its rows.

    A row with fewer than two common cases has no test.
    """
    reference = reference_row(result, column)
    base = result.cell(reference, column.key) if reference is not None else None
    if reference is None or base is None:
        return []
    first = case_means(base)
    tests = []
    for row in result.rows:
        cell = result.cell(row.key, column.key)
        if row.key == reference or cell is None or cell.status != "done":
            continue
        other = case_means(cell)
        common = [case for case in first if case in other]
        if len(common) < 2:
            continue
        found = compare_paired([first[case] for case in common], [other[case] for case in common], column.better)
        tests.append(PairedTest(column.key, row.key, reference, found))
    corrected = correct_holm([test.difference.p for test in tests])
    return [
        replace(test, difference=replace(test.difference, p_holm=p)) for test, p in zip(tests, corrected, strict=True)
    ]


def number(value: float | None, digits: int) -> str:
    """Return a number as it is printed; "" for None."""
    return "" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def spread(mean: float | None, sd: float | None, digits: int) -> str:
    """Return "mean ± SD", without SD where there is none; "" for None."""
    deviation = number(sd, digits)
    return number(mean, digits) + (f" ± {deviation}" if deviation else "")


def counts(cells: Sequence[ResultCell]) -> dict[str, int]:
    """Return how many cells are done, failed and not run."""
    return {status: sum(cell.status == status for cell in cells) for status in ("done", "failed", "not run")}
