"""Tables of measured networks, as text and as JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deconvseg.catalog import REASONS, PublishedRow
from deconvseg.models.complexity import RULES, Complexity
from deconvseg.reporting.complexity.measuring import MeasuredNetwork, MeasuredTable

NOT_MEASURED = (
    "not measured: the network is made for images of another size, or needs an optional package that is not installed"
)
_MEBI = 2**20
_EXACT = (
    *("input_shape", "parameters", "macs", "flops", "macs_per_voxel", "flops_per_voxel", "elementwise", "uncounted"),
    *("inference_bytes", "training_bytes", "training_failure"),
)


def reasons_of(tables: Sequence[MeasuredTable]) -> list[str]:
    """The reasons for differences that these tables refer to, in the order of their numbers (from 1)."""
    found: dict[str, None] = {}
    for table in tables:
        for row in table.rows:
            found.update(dict.fromkeys(_reasons(row)))
    return list(found)


def cells(table: MeasuredTable, reasons: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The headings and rows of a table as text; the last cell has the numbers of its reasons."""
    columns = [column for column in _COLUMNS if any(column.cell(table, row) for row in table.rows)]
    headings = [column.heading(table) for column in columns]
    rows = [[column.cell(table, row) for column in columns] for row in table.rows]
    numbers = [", ".join(map(str, sorted(1 + reasons.index(reason) for reason in _reasons(row)))) for row in table.rows]
    if any(numbers):
        headings.append("notes")
        rows = [[*row, number] for row, number in zip(rows, numbers, strict=True)]
    return headings, rows


def to_json(tables: Sequence[MeasuredTable]) -> list[dict[str, Any]]:
    """The table as a tree for JSON, with exact numbers, the tally of every operation, and the reasons as text."""
    return [
        {"title": table.title, "size": list(table.size), "networks": [_network_tree(table, row) for row in table.rows]}
        for table in tables
    ]


def text_of_reason(reason: str) -> str:
    """A reason as text."""
    return REASONS.get(reason, f"{reason[0].upper()}{reason[1:].rstrip('.')}.")


def true_cost(table: MeasuredTable, measured: Complexity) -> float:
    """The exact cost in the unit of the published table: multiply-accumulates, or operations (twice as many)."""
    if table.published and table.published.cost_unit == "G":
        return measured.macs / 1e9
    return measured.flops_per_voxel / 1e3


def _reasons(row: MeasuredNetwork) -> tuple[str, ...]:
    reasons = row.published.reasons if row.published else ()
    measured = row.complexity
    if measured is None:
        return (*reasons, NOT_MEASURED)
    if measured.uncounted:
        reasons = (*reasons, f"no formula counts {', '.join(measured.uncounted)}: the true cost is higher")
    if measured.training_failure:
        reasons = (*reasons, f"the memory of training is not known: {measured.training_failure}")
    return reasons


@dataclass(frozen=True)
class _Column:
    """A column: its heading, and the cell of a row (empty if unknown)."""

    heading: Callable[[MeasuredTable], str]
    text: Callable[[MeasuredTable, MeasuredNetwork, Complexity], str] | None = None
    printed: Callable[[MeasuredTable, PublishedRow], str] | None = None

    def cell(self, table: MeasuredTable, row: MeasuredNetwork) -> str:
        if self.printed:
            return self.printed(table, row.published) if row.published else ""
        assert self.text is not None
        return self.text(table, row, row.complexity) if row.complexity else ""


def _unit(table: MeasuredTable) -> str:
    return table.published.cost_unit if table.published else "K/voxel"


def _by_rule(table: MeasuredTable, measured: Complexity) -> float | None:
    if table.published is None or table.published.rule is None:
        return None
    count = RULES[table.published.rule].count(measured)
    return count / 1e9 if _unit(table) == "G" else count / measured.voxels / 1e3


def _number(value: float | None, table: MeasuredTable) -> str:
    return "" if value is None else f"{value:.{2 if _unit(table) == 'G' else 1}f}"


def _mebibytes_of_weights(table: MeasuredTable, measured: Complexity) -> str:
    return f"{measured.parameters * 4 / _MEBI:.2f}" if _parameters_unit(table) == "MiB" else ""


def _mebibytes(memory: int | None) -> str:
    return "" if memory is None else f"{memory / _MEBI:,.0f}"


def _parameters_unit(table: MeasuredTable) -> str:
    return table.published.parameters_unit if table.published else "M"


_COLUMNS = (
    _Column(lambda table: "network", printed=lambda table, row: row.system),
    _Column(lambda table: "model", text=lambda table, row, measured: "" if row.published else row.name),
    _Column(lambda table: f"published parameters ({_parameters_unit(table)})",
            printed=lambda table, row: "" if row.published_parameters is None else str(row.published_parameters)),
    _Column(lambda table: "weights (MiB)",
            text=lambda table, row, measured: _mebibytes_of_weights(table, measured)),
    _Column(lambda table: "parameters", text=lambda table, row, measured: f"{measured.parameters:,}"),
    _Column(lambda table: f"published cost ({_unit(table)})",
            printed=lambda table, row: _number(row.published_cost, table) if table.same_size else ""),
    _Column(lambda table: f"same rule ({_unit(table)})",
            text=lambda table, row, measured: _number(_by_rule(table, measured), table)),
    _Column(lambda table: f"true ({_unit(table)})",
            text=lambda table, row, measured: _number(true_cost(table, measured), table)),
    _Column(lambda table: "multiply-accumulates (G)",
            text=lambda table, row, measured: "" if _unit(table) == "G" else f"{measured.macs / 1e9:,.2f}"),
    _Column(lambda table: "memory, inference (MiB)",
            text=lambda table, row, measured: _mebibytes(measured.inference_bytes)),
    _Column(lambda table: "memory, training (MiB)",
            text=lambda table, row, measured: _mebibytes(measured.training_bytes)),
    _Column(lambda table: "seconds",
            text=lambda table, row, measured: "" if row.seconds is None else f"{row.seconds:.3g}"),
)  # fmt: skip


def _network_tree(table: MeasuredTable, row: MeasuredNetwork) -> dict[str, Any]:
    tree: dict[str, Any] = {"name": row.name}
    if row.published:
        printed = {"parameters": row.published.published_parameters, "unit_of_parameters": _parameters_unit(table)}
        if table.same_size:
            printed |= {"cost": row.published.published_cost, "unit_of_cost": _unit(table)}
        tree |= {"published": {**printed, "scores": dict(row.published.scores)}}
    tree |= {"reasons": [text_of_reason(reason) for reason in _reasons(row)]}
    if row.complexity is None:
        return tree
    measured = row.complexity
    if row.published:
        tree |= {"same_rule": _by_rule(table, measured), "unit_of_same_rule": _unit(table)}
    for name in _EXACT:
        tree[name] = getattr(measured, name)
    tree |= {"seconds": row.seconds, "operators": {name: vars(tally) for name, tally in measured.operators.items()}}
    return tree
