"""The cells of a result as text, from which Markdown, LaTeX and HTML are written."""

from collections.abc import Iterable
from dataclasses import dataclass

from deconvseg.catalog import DATASETS
from deconvseg.reporting.comparison.tables import format_signed
from deconvseg.reporting.results.model import ResultCell, ResultColumn, ResultRow, TableResult
from deconvseg.reporting.results.statistics import (
    Summary,
    compare_rows,
    means,
    number,
    published,
    rank,
    spread,
    summarise,
)

_ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0"}
EXPLANATION = (
    "Mean ± standard deviation over folds and seeds; best bold, second underlined; 'paper' is the published score."
)


@dataclass(frozen=True)
class Entry:
    """A score as text, its rank ("best", "second" or ""), and the number behind it."""

    text: str
    mark: str = ""
    value: float | None = None
    interval: str = ""


@dataclass(frozen=True)
class Line:
    """A row as text: its sizes, printed sizes, and for each column our entry and the published one."""

    row: ResultRow
    parameters: str
    cost: str
    ours: tuple[Entry, ...]
    published: tuple[Entry, ...]


@dataclass(frozen=True)
class Grid:
    """All rows of a result as text; flags tell which optional columns have any entry."""

    columns: tuple[ResultColumn, ...]
    lines: tuple[Line, ...]

    @property
    def with_parameters(self) -> bool:
        """Whether any row has a number of parameters."""
        return any(line.parameters for line in self.lines)

    @property
    def with_cost(self) -> bool:
        """Whether any row has a true cost."""
        return any(line.cost for line in self.lines)

    @property
    def with_printed_parameters(self) -> bool:
        """Whether the paper prints numbers of parameters."""
        return any(line.row.published_parameters for line in self.lines)

    @property
    def with_printed_cost(self) -> bool:
        """Whether the paper prints costs."""
        return any(line.row.published_cost for line in self.lines)

    def has_published(self, place: int) -> bool:
        """Whether any row has a published score in the column of that place."""
        return any(line.published[place].text for line in self.lines)

    @property
    def groups(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The datasets with the places of their columns, in their order; a dataset may come twice."""
        found: list[tuple[str, list[int]]] = []
        for place, column in enumerate(self.columns):
            if not found or found[-1][0] != column.dataset:
                found.append((column.dataset, []))
            found[-1][1].append(place)
        return tuple((dataset_title(name), tuple(places)) for name, places in found)


def dataset_title(name: str) -> str:
    """Return the title of a dataset of the papers, or the name of another one."""
    return DATASETS.get(name, name)


def column_title(column: ResultColumn, *, arrow: bool = True) -> str:
    """Return the metric, its structure and its unit, with an arrow to the better values."""
    title = column.title
    if column.structure and column.structure not in title:
        title = f"{title} {column.structure}"
    unit = f" ({column.unit})" if column.unit else ""
    return f"{title}{unit}{f' {_ARROWS[column.better]}' if arrow else ''}"


def full_title(column: ResultColumn) -> str:
    """Return the dataset and the metric."""
    return f"{dataset_title(column.dataset)}, {column_title(column, arrow=False)}"


def build_grid(result: TableResult) -> Grid:
    """Return the text of every cell of a result."""
    ours = {column.key: rank(means(result, column), column) for column in result.columns}
    printed = {column.key: rank(published(result, column), column) for column in result.columns}
    lines = []
    for row in result.rows:
        cells = [(column, result.cell(row.key, column.key)) for column in result.columns]
        lines.append(
            Line(
                row,
                _join(
                    f"{cost.parameters / 1e6:.2f}M" if cost.parameters is not None else ""
                    for cost in row.costs.values()
                ),
                _join(f"{cost.kflops:.1f}K" if cost.kflops is not None else "" for cost in row.costs.values()),
                tuple(_ours(cell, column, ours[column.key].get(row.key, "")) for column, cell in cells),
                tuple(_published(cell, column, printed[column.key].get(row.key, "")) for column, cell in cells),
            )
        )
    return Grid(result.columns, tuple(lines))


def _join(texts: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(text for text in texts if text))


def _ours(cell: ResultCell | None, column: ResultColumn, mark: str) -> Entry:
    if cell is None:
        return Entry("")
    if cell.status != "done":
        return Entry(cell.status)
    found = summarise(cell)
    if found.mean is None:
        return Entry("no value")
    return Entry(spread(found.mean, found.sd, column.digits), mark, found.mean, interval_text(found, column.digits))


def interval_text(found: Summary, digits: int) -> str:
    """Return the interval of a summary as "low to high", "" without one."""
    return f"{number(found.ci95[0], digits)} to {number(found.ci95[1], digits)}" if found.ci95 else ""


def _published(cell: ResultCell | None, column: ResultColumn, mark: str) -> Entry:
    if cell is None or cell.published is None:
        return Entry("")
    score = cell.published
    return Entry(spread(score.value, score.sd, column.digits), mark, score.value)


@dataclass(frozen=True)
class Statement:
    """A row of the table of intervals and tests, as text."""

    column: str
    row: str
    mean: str
    interval: str
    cases: str
    against: str
    difference: str
    p: str
    p_holm: str


def state_tests(result: TableResult) -> list[Statement]:
    """Return interval and paired test of every cell that has scores of cases."""
    titles = {row.key: row.title for row in result.rows}
    statements = []
    for column in result.columns:
        tests = {test.row: test for test in compare_rows(result, column)}
        for row in result.rows:
            cell = result.cell(row.key, column.key)
            found = summarise(cell) if cell is not None else None
            if found is None or found.case_mean is None:
                continue
            test = tests.get(row.key)
            against = difference = p = p_holm = ""
            if test is not None:
                against, digits = titles[test.reference], column.digits
                difference = signed(test.difference.mean, digits)
                if test.difference.ci95:
                    low, high = (signed(bound, digits) for bound in test.difference.ci95)
                    difference += f" ({low} to {high})"
                p, p_holm = probability(test.difference.p), probability(test.difference.p_holm)
            statements.append(
                Statement(
                    full_title(column), row.title, number(found.case_mean, column.digits),
                    interval_text(found, column.digits), _count(cell, found), against, difference, p, p_holm,
                )
            )  # fmt: skip
    return statements


def _count(cell: ResultCell | None, found: Summary) -> str:
    """Return the number of cases with a value, and of how many, if some have none."""
    cases = len({score.case for score in cell.cases}) if cell is not None else 0
    return f"{found.cases} of {cases}" if found.cases < cases else str(found.cases)


def probability(value: float | None) -> str:
    """Return a p-value as text, "" for None."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def signed(value: float | None, digits: int) -> str:
    """Return a difference with its sign, a minus sign and not a hyphen; "" for None."""
    return "" if value is None else format_signed(value, digits)


TESTS = (
    "The mean is over the cases that are scored, out of fold or test cases, each averaged over the folds and seeds "
    "that score it, with its 95 % percentile bootstrap interval (10,000 resamples of cases). "
    "Differences are the row minus the reference row over their common cases; p is Wilcoxon's two-sided signed-rank "
    "test, corrected by Holm over the rows of a column."
)


def missing(result: TableResult) -> list[tuple[str, str, str, str]]:
    """Return row, column, status and reason of every cell that is not done."""
    titles = {column.key: full_title(column) for column in result.columns}
    return [
        (row.title, titles[cell.column], cell.status, cell.reason)
        for row in result.rows
        for cell in row.cells
        if cell.status != "done"
    ]
