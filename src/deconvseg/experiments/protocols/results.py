"""The result of a table from its cells."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deconvseg._version import __version__
from deconvseg.catalog import DATASETS, PUBLISHED_SCORES, ScoreRow
from deconvseg.evaluation import Metric, list_metrics
from deconvseg.experiments.protocols.asking import Table
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.costs import Costs
from deconvseg.experiments.protocols.describing import describe_scale
from deconvseg.experiments.protocols.reading import find_network, preset_of
from deconvseg.experiments.protocols.schema import Protocol, ProtocolColumn, ProtocolRow
from deconvseg.reporting.results import (
    CaseScore,
    FoldScore,
    PrintedScore,
    ResultCell,
    ResultColumn,
    ResultFigure,
    ResultRow,
    TableResult,
)
from deconvseg.reporting.results.model import Status
from deconvseg.system import package_version, processor_name

_WAITING = "not finished yet"


@dataclass(frozen=True)
class Progress:
    """The cells of a table, the costs of its networks, the reasons of cells that failed, by their key, and figures."""

    cells: Sequence[Cell]
    costs: Costs
    problems: dict[str, str] = field(default_factory=dict)
    figures: Sequence[ResultFigure] = ()


def gather(table: Table, progress: Progress) -> TableResult:
    """Return the result of the cells that are finished, and the reasons for the others."""
    protocol = table.protocol
    printed = _published(protocol)
    rows = tuple(_row(table, row, progress, printed.get(row.key)) for row in protocol.rows)
    return TableResult(
        key=protocol.key,
        title=protocol.title,
        paper=protocol.paper,
        columns=tuple(describe_column(column) for column in protocol.columns),
        rows=rows,
        reference=protocol.reference,
        scaled=tuple(describe_scale(table)),
        notes=(*protocol.notes, *(text for column in protocol.columns if (text := _count_defined(column, rows)))),
        folds=table.folds,
        seeds=table.seeds,
        command=table.asked.command or "",
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
    )


def _count_defined(column: ProtocolColumn, rows: Sequence[ResultRow]) -> str:
    """Return a sentence with the numbers of scores of a column that leaves out cases; "" for another column."""
    counts = []
    for row in rows:
        values = [score.value for cell in row.cells if cell.column == column.key for score in cell.cases]
        if values:
            counts.append((row.title, sum(value is not None for value in values), len(values)))
    drops = _metric(column).empty.both is None
    if not counts or not (drops or any(known < total for _, known, total in counts)):
        return ""
    numbers = ", ".join(f"{title} {known} of {total}" for title, known, total in counts)
    where = f"{DATASETS.get(column.dataset, column.dataset)}, {_title(column)}"
    return f"{where}: scores of the cases in which it is defined, {numbers}."


def _row(table: Table, row: ProtocolRow, progress: Progress, published: ScoreRow | None) -> ResultRow:
    model, network = _network(table, row)
    columns = table.protocol.columns_of(row)
    return ResultRow(
        key=row.key,
        title=row.title,
        model=model,
        network=network,
        cells=tuple(_cell(row, column, progress, table.left_out, published) for column in columns),
        costs=dict(progress.costs.get(row.key, {})),
        published_parameters="" if published is None else published.parameters,
        published_cost="" if published is None else published.cost,
    )


def _cell(
    row: ProtocolRow,
    column: ProtocolColumn,
    progress: Progress,
    left_out: Mapping[str, str],
    published: ScoreRow | None,
) -> ResultCell:
    mine = [cell for cell in progress.cells if (cell.row, cell.dataset) == (row.key, column.dataset)]
    folds: list[FoldScore] = []
    cases: list[CaseScore] = []
    missing = [left_out[key] for key in (row.key, column.dataset) if key in left_out]
    failed: list[str] = []
    for cell in mine:
        record = cell.read()
        if cell.key in progress.problems:
            failed.append(progress.problems[cell.key])
        elif record is None:
            missing.append(_WAITING)
        for score in (record or {}).get("columns", {}).get(column.key, {}).get("folds", ()):
            folds.append(FoldScore(**score, seed=cell.seed))
        for score in (record or {}).get("columns", {}).get(column.key, {}).get("cases", ()):
            cases.append(CaseScore(**score, seed=cell.seed))
    status: Status = "failed" if failed else "done" if folds and not missing else "not run"
    score = published.scores.get(column.key) if published is not None else None
    return ResultCell(
        column=column.key,
        status=status,
        folds=tuple(folds),
        cases=tuple(cases),
        published=None if score is None else PrintedScore(value=score.value, sd=score.sd),
        reason="; ".join(dict.fromkeys((*failed, *missing))) if status != "done" else "",
        run=f"cells/{mine[0].folder.name}/crossval" if mine and not row.members else "",
    )


def describe_column(column: ProtocolColumn) -> ResultColumn:
    """Return a column as a result has it."""
    return ResultColumn(
        key=column.key,
        dataset=column.dataset,
        metric=column.metric,
        title=_title(column),
        structure=column.structure,
        unit=column.unit,
        digits=column.digits,
        better=_metric(column).better,
    )


def _metric(column: ProtocolColumn) -> Metric:
    return {metric.key: metric for metric in list_metrics()}[column.metric]


def _title(column: ProtocolColumn) -> str:
    return column.title or f"{_metric(column).title} {column.structure}".strip()


def _network(table: Table, row: ProtocolRow) -> tuple[str, dict[str, Any]]:
    if row.members:
        return "ensemble", {"members": list(row.members)}
    datasets = table.protocol.datasets
    dataset = next(one for one in datasets if row.datasets is None or one.name in row.datasets)
    model, arguments = find_network(row, preset_of(dataset), row.key)
    return model, table.scale.network(model, arguments)


def _published(protocol: Protocol) -> Mapping[str, ScoreRow]:
    """Return the rows of the published table by key."""
    table = PUBLISHED_SCORES.get(protocol.published or "")
    return {} if table is None else {row.key: row for row in table.rows}


def _versions() -> dict[str, str]:
    return {
        "deconvseg": __version__,
        "torch": str(package_version("torch")),
        "monai": str(package_version("monai")),
        "processor": processor_name(),
    }
