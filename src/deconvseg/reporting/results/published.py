"""A result that holds only what a paper prints: the start of a reproduction."""

from deconvseg.catalog import PRESETS, PUBLISHED_SCORES, REASONS, ScoreRow, ScoreTable
from deconvseg.errors import check_choice
from deconvseg.reporting.results.model import Cost, PrintedScore, ResultCell, ResultColumn, ResultRow, TableResult

NOT_RUN = "not run yet"


def published_result(key: str) -> TableResult:
    """Return a table of :data:`~deconvseg.catalog.PUBLISHED_SCORES` as a result in which nothing has been run.

    Networks that are variants of a preset have their exact number of parameters. Raises
    :class:`~deconvseg.errors.InputError` for an unknown key, with the nearest one.

    Example:
        >>> from deconvseg.reporting import published_result
        >>> published_result("dtc/table-1").cell("unet-tc", "isic/dsc").published.value
        78.57

    """
    check_choice(key, PUBLISHED_SCORES, "key")
    table = PUBLISHED_SCORES[key]
    columns = tuple(
        ResultColumn(
            key=column.key, dataset=column.dataset, metric=column.metric, structure=column.structure,
            title=column.title, unit=column.unit, better=column.better,
        )
        for column in table.columns
    )  # fmt: skip
    reasons = dict.fromkeys([*table.reasons, *(reason for row in table.rows for reason in row.reasons)])
    return TableResult(
        key=table.key, title=table.title, paper=table.source, columns=columns,
        rows=tuple(_row(table, row) for row in table.rows), notes=tuple(REASONS[reason] for reason in reasons),
    )  # fmt: skip


def _row(table: ScoreTable, row: ScoreRow) -> ResultRow:
    cells = tuple(
        ResultCell(
            column=column.key, status="not run", reason=NOT_RUN,
            published=PrintedScore(value=row.scores[column.key].value, sd=row.scores[column.key].sd),
        )
        for column in table.columns
        if column.key in row.scores
    )  # fmt: skip
    costs = {}
    for column in table.columns:
        variant = PRESETS[column.dataset].variants.get(row.variant)
        if variant is not None and column.key in row.scores:
            costs[column.dataset] = Cost(parameters=variant.parameters)
    model = next((PRESETS[c.dataset].variants[row.variant].model for c in table.columns if c.dataset in costs), "")
    return ResultRow(
        key=row.key, title=row.title, model=model, cells=cells, costs=costs,
        published_parameters=row.parameters, published_cost=row.cost,
    )  # fmt: skip
