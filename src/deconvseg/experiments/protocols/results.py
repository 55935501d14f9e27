"""The result of a protocol from its cells."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deconvseg._version import __version__
from deconvseg.catalog import PRESETS, PUBLISHED_SCORES, ScoreRow
from deconvseg.evaluation import list_metrics
from deconvseg.experiments.protocols.cells import Cell
from deconvseg.experiments.protocols.reading import find_network, preset_name
from deconvseg.experiments.protocols.scaling import Scale
from deconvseg.experiments.protocols.schema import Protocol, ProtocolColumn, ProtocolRow
from deconvseg.models import create_model
from deconvseg.models.complexity import complexity
from deconvseg.progress import Console, each
from deconvseg.reporting.results import (
    CaseScore,
    Cost,
    FoldScore,
    PrintedScore,
    ResultCell,
    ResultColumn,
    ResultRow,
    Scaled,
    TableResult,
)
from deconvseg.reporting.results.model import Status
from deconvseg.system import package_version, processor_name

_WAITING = "not finished yet"


def count_costs(protocol: Protocol, scale: Scale, console: Console) -> dict[str, dict[str, Cost]]:
    """Return the cost of every row by dataset: parameters and operations of the network as it is trained."""
    found: dict[str, dict[str, Cost]] = {row.key: {} for row in protocol.rows}
    known: dict[str, Cost] = {}
    pairs = [(row, one) for row in protocol.rows for one in protocol.datasets if not row.members]
    for row, dataset in each(pairs, "counting parameters and operations", console, lambda pair: pair[0].title):
        if row.datasets is not None and dataset.name not in row.datasets:
            continue
        preset = PRESETS[preset_name(dataset)]
        model, arguments = find_network(row, preset, row.key)
        config, size = scale.network(model, arguments), scale.size(preset.patch_size)
        key = repr((model, sorted(config.items()), size))
        if key not in known:
            with torch.device("meta"):
                network = create_model(model, **config)
            counted = complexity(network, (1, network.in_channels, *size), training=False)
            known[key] = Cost(parameters=counted.parameters, kflops=counted.flops_per_voxel / 1000)
        found[row.key][dataset.name] = known[key]
    for row in protocol.rows:
        for dataset in protocol.datasets if row.members else ():
            costs = [found[member].get(dataset.name) for member in row.members]
            found[row.key][dataset.name] = Cost(
                parameters=sum(cost.parameters or 0 for cost in costs if cost),
                kflops=sum(cost.kflops or 0 for cost in costs if cost),
            )
    return found


def gather(
    protocol: Protocol,
    cells: Sequence[Cell],
    *,
    problems: Mapping[str, str],
    left_out: Mapping[str, str],
    costs: Mapping[str, Mapping[str, Cost]],
    scale: Scale,
    scaled: Sequence[Scaled],
    folds: int,
    seeds: Sequence[int],
    notes: Sequence[str] = (),
    command: str = "",
) -> TableResult:
    """Return the result of the cells that are finished, and the reasons for the others.

    ``problems`` has the reasons of failed cells by their key, ``left_out`` the reasons for rows and datasets that were
    not asked for, by their key.
    """
    printed = _published(protocol)
    rows = []
    for row in protocol.rows:
        model, network = _network(protocol, row, scale)
        published = printed.get(row.key)
        rows.append(
            ResultRow(
                key=row.key,
                title=row.title,
                model=model,
                network=network,
                cells=tuple(
                    _cell(row, column, cells, problems, left_out, published) for column in protocol.columns_of(row)
                ),
                costs=dict(costs.get(row.key, {})),
                published_parameters="" if published is None else published.parameters,
                published_cost="" if published is None else published.cost,
            )
        )
    return TableResult(
        key=protocol.key,
        title=protocol.title,
        paper=protocol.paper,
        columns=tuple(_column(protocol, column) for column in protocol.columns),
        rows=tuple(rows),
        reference=protocol.reference,
        scaled=tuple(scaled),
        notes=(*protocol.notes, *notes),
        folds=folds,
        seeds=tuple(seeds),
        command=command,
        made=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
    )


def _cell(
    row: ProtocolRow,
    column: ProtocolColumn,
    cells: Sequence[Cell],
    problems: Mapping[str, str],
    left_out: Mapping[str, str],
    published: ScoreRow | None,
) -> ResultCell:
    mine = [cell for cell in cells if (cell.row, cell.dataset) == (row.key, column.dataset)]
    folds: list[FoldScore] = []
    cases: list[CaseScore] = []
    missing = [left_out[key] for key in (row.key, column.dataset) if key in left_out]
    failed: list[str] = []
    for cell in mine:
        record = cell.read()
        if cell.key in problems:
            failed.append(problems[cell.key])
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


def _column(protocol: Protocol, column: ProtocolColumn) -> ResultColumn:
    metric = {metric.key: metric for metric in list_metrics()}[column.metric]
    return ResultColumn(
        key=column.key,
        dataset=column.dataset,
        metric=column.metric,
        title=column.title or f"{metric.title} {column.structure}".strip(),
        structure=column.structure,
        unit=column.unit,
        digits=column.digits,
        better=metric.better,
    )


def _network(protocol: Protocol, row: ProtocolRow, scale: Scale) -> tuple[str, dict[str, Any]]:
    if row.members:
        return "ensemble", {"members": list(row.members)}
    dataset = next(one for one in protocol.datasets if row.datasets is None or one.name in row.datasets)
    model, arguments = find_network(row, PRESETS[preset_name(dataset)], row.key)
    return model, scale.network(model, arguments)


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
