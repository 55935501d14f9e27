"""A result as comma-separated values: one row for each cell, fold and seed."""

import csv
import io

from deconvseg.reporting.results.model import ResultCell, ResultColumn, ResultRow, TableResult

COLUMNS = (
    *("table", "row", "network", "model", "dataset", "metric", "structure", "unit", "status", "seed", "fold", "value"),
    *("cases", "undefined", "published", "published_sd", "parameters", "kflops", "run", "reason"),
)


def render_csv(result: TableResult) -> str:
    """Return one row per cell, fold and seed, with all digits; a cell without scores has one row with its reason."""
    columns = {column.key: column for column in result.columns}
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in result.rows:
        for cell in row.cells:
            column = columns[cell.column]
            described, rest = _describe(row, column), _rest(row, cell, column.dataset)
            for scores in _scores(cell):
                writer.writerow([result.key, *described, cell.status, *scores, *rest])
    return file.getvalue()


def _scores(cell: ResultCell) -> list[tuple[object, ...]]:
    """Return seed, fold, value, number of cases and of those without a value, for every fold."""
    if not cell.folds:
        return [("",) * 5]
    found: list[tuple[object, ...]] = []
    for score in cell.folds:
        values = [case.value for case in cell.cases if (case.fold, case.seed) == (score.fold, score.seed)]
        counts = (len(values), values.count(None)) if values else ("", "")
        found.append((score.seed, score.fold, _blank(score.value), *counts))
    return found


def _describe(row: ResultRow, column: ResultColumn) -> list[str]:
    return [row.key, row.title, row.model, column.dataset, column.metric, column.structure, column.unit]


def _rest(row: ResultRow, cell: ResultCell, dataset: str) -> list[object]:
    cost = row.costs.get(dataset)
    sizes = [_blank(cost.parameters), _blank(cost.kflops)] if cost else ["", ""]
    printed = [cell.published.value, _blank(cell.published.sd)] if cell.published else ["", ""]
    return [*printed, *sizes, cell.run, cell.reason]


def _blank(value: float | None) -> object:
    return "" if value is None else value
