"""The result of a table from its records alone, without the data and without training anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path

from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.reading import find_network, preset_of, read_protocol
from deconvseg.experiments.protocols.records import Recorded, define, read_records
from deconvseg.experiments.protocols.results import describe_column
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol, ProtocolColumn, ProtocolRow
from deconvseg.reporting.results import CaseScore, Cost, FoldScore, ResultCell, ResultRow, TableResult

_Cells = Mapping[tuple[str, int], Recorded]
_Records = Mapping[str, _Cells]


def read_recorded(protocol: str | PathLike[str], records: str | PathLike[str]) -> TableResult:
    """Return the table of a protocol from the records that ``compare(records=...)`` keeps, without its data.

    A row is done in a column if all seeds are recorded as the protocol defines them now; otherwise the reason says
    which are not, and it has no score. Raises :class:`~deconvseg.errors.InputError` for an unknown protocol, and for
    files that are no records.

    Example:
        >>> from deconvseg.experiments import read_recorded
        >>> table = read_recorded("evidence/layer", "nothing-recorded")
        >>> table.cell("ndc", "hippocampus/dsc").reason
        'seeds 0, 1, 2 are not recorded'

    """
    asked = read_protocol(protocol)
    found = {dataset.name: read_records(Path(records), dataset.name) for dataset in asked.datasets}
    valid = {name: _valid(asked, name, cells) for name, cells in found.items()}
    return TableResult(
        key=asked.key,
        title=asked.title,
        paper=asked.paper,
        columns=tuple(describe_column(column) for column in asked.columns),
        rows=tuple(_row(asked, row, valid) for row in asked.rows),
        reference=asked.reference,
        notes=asked.notes,
        folds=asked.folds,
        seeds=asked.seeds,
    )


def _valid(protocol: Protocol, dataset: str, cells: _Cells) -> dict[tuple[str, int], Recorded]:
    """Return the recorded cells that are defined as those of the protocol."""
    keys = {row.key for row in protocol.rows}
    return {
        (row, seed): recorded
        for (row, seed), recorded in cells.items()
        if row in keys and recorded.definition == define(_cell(protocol, dataset, row, seed))
    }


def _cell(protocol: Protocol, dataset: str, row: str, seed: int) -> Cell:
    """Return the cell of the whole table, which is in no folder."""
    return Cell(
        protocol=protocol.model_dump(mode="json"),
        row=row,
        dataset=dataset,
        seed=seed,
        root="",
        splits="",
        output="",
        scale=asdict(Scale()),
        values={},
        weights=protocol.weights,
    )


def _row(protocol: Protocol, row: ProtocolRow, records: _Records) -> ResultRow:
    columns = protocol.columns_of(row)
    names = dict.fromkeys(column.dataset for column in columns)
    model, network = "ensemble", {"members": list(row.members)}
    if not row.members:
        dataset = next(one for one in protocol.datasets if row.datasets is None or one.name in row.datasets)
        model, network = find_network(row, preset_of(dataset), row.key)
    costs = {name: cost for name in names if (cost := _cost(protocol, row.key, name, records[name])) is not None}
    cells = tuple(_result(protocol, row, column, records[column.dataset]) for column in columns)
    return ResultRow(key=row.key, title=row.title, model=model, network=network, cells=cells, costs=costs)


def _cost(protocol: Protocol, row: str, dataset: str, cells: _Cells) -> Cost | None:
    lines = [line for (key, _), recorded in cells.items() if key == row for line in recorded.trainings]
    if not lines:
        return None
    sizes = {key: float(lines[0][key]) if lines[0].get(key) else None for key in ("parameters", "kflops")}
    parameters = None if sizes["parameters"] is None else int(sizes["parameters"])
    return Cost(parameters=parameters, kflops=sizes["kflops"], seconds=protocol.patch_seconds(row, dataset))


def _result(protocol: Protocol, row: ProtocolRow, column: ProtocolColumn, cells: _Cells) -> ResultCell:
    folds: list[FoldScore] = []
    cases: list[CaseScore] = []
    missing = [seed for seed in protocol.seeds if (row.key, seed) not in cells]
    for seed in protocol.seeds:
        if seed not in missing:
            scores = cells[row.key, seed].scores(column.key)
            folds += [FoldScore(**score, seed=seed) for score in scores["folds"]]
            cases += [CaseScore(**score, seed=seed) for score in scores["cases"]]
    listed = ", ".join(map(str, missing))
    reason = f"seed {listed} is not recorded" if len(missing) == 1 else f"seeds {listed} are not recorded"
    outcome = {"status": "not run", "reason": reason} if missing else {"status": "done"}
    return ResultCell.model_validate({"column": column.key, "folds": tuple(folds), "cases": tuple(cases), **outcome})
