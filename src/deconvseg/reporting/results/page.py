"""A result as one self-contained HTML page."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deconvseg.reporting.rendering import Section, render_page, section_of_blocks
from deconvseg.reporting.results.efficiency import draw_efficiency
from deconvseg.reporting.results.grid import (
    EXPLANATION,
    TESTS,
    Grid,
    build_grid,
    column_title,
    dataset_title,
    missing,
    state_tests,
)
from deconvseg.reporting.results.model import TableResult
from deconvseg.reporting.results.statistics import counts
from deconvseg.reporting.style import figure_uri, file_uri
from deconvseg.reporting.tables import Cell, Column, Row, Table
from deconvseg.text import number_of


def render_html(result: TableResult, folder: Path | None = None) -> str:
    """Return the page: what was done, the scores beside the published ones, charts, tests, and what is missing.

    The figures of the result are read from its ``folder``.
    """
    sections = [section for build in _SECTIONS for section in build(result)]
    if folder is not None:
        place = next(place for place, section in enumerate(sections) if section.anchor == "scores")
        sections[place + 1 : place + 1] = _figures(result, folder)
    return render_page(
        title=result.title,
        subtitle=" · ".join(part for part in (result.key, result.paper) if part),
        sections=sections,
    )


def _figures(result: TableResult, folder: Path) -> Iterator[Section]:
    for place, figure in enumerate(result.figures, start=1):
        note = f"{figure.note[0].upper()}{figure.note[1:]}." if figure.note else ""
        lead, charts, file = [note] if note else [], [], folder / figure.file
        # A result that was received may name any file.
        if figure.file and file.is_file() and file.resolve().is_relative_to(folder.resolve()):
            charts = [{"uri": file_uri(file), "text": figure.name}]
            lead.append(f"In {figure.file}.")
        else:
            lead.append(f"Not drawn: {figure.reason or f'{figure.file} is missing'}.")
        yield section_of_blocks(f"figure-{place}", figure.name, lead=lead, figures=charts)


def _words(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> Table:
    """Return a table of text in which the first ``words`` columns are words and the others numbers."""
    columns = tuple(Column(head, words=place < words) for place, head in enumerate(heads))
    return Table(columns, tuple(Row(tuple(Cell(text) for text in row)) for row in rows)).without_empty_columns()


def tell_state(result: TableResult) -> str:
    """Return a sentence about the cells that are done, failed and not run."""
    found = counts([cell for row in result.rows for cell in row.cells])
    total = sum(found.values())
    text = f"{found['done']} of {number_of(total, 'cell')} measured"
    others = [f"{found[status]} {status}" for status in ("failed", "not run") if found[status]]
    folds = f", in {number_of(result.folds, 'fold')}" if result.folds and found["done"] else ""
    seeds = f" and {number_of(len(result.seeds), 'seed')}" if folds and len(result.seeds) > 1 else ""
    return f"{text}{folds}{seeds}{f'; {list_of(others)}' if others else ''}."


def list_of(texts: Sequence[str]) -> str:
    """Return texts joined by "and"."""
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _overview(result: TableResult) -> Iterator[Section]:
    lead = [tell_state(result)]
    tables = []
    if result.scaled:
        lead.append("This is not the paper's setting. What differs:")
        rows = [(each.what, each.paper, each.here) for each in result.scaled]
        tables.append(("", _words(("setting", "paper", "here"), rows, 3)))
    yield section_of_blocks("overview", "In brief", lead=lead, tables=tables)


def _scores(result: TableResult) -> Iterator[Section]:
    grid = build_grid(result)
    content = {
        "explanation": EXPLANATION,
        "sizes": _sizes(grid),
        "groups": [(title, sum(1 + grid.has_published(place) for place in places)) for title, places in grid.groups],
        "heads": [(column_title(column), grid.has_published(place)) for place, column in enumerate(grid.columns)],
        "lines": grid.lines,
    }
    yield Section("scores", "Scores", "result", content)


def _sizes(grid: Grid) -> list[tuple[str, str, list[str]]]:
    lines = grid.lines
    found = [
        (grid.with_parameters, "Parameters", "exact", [line.parameters for line in lines]),
        (grid.with_printed_parameters, "Parameters", "paper", [line.row.published_parameters for line in lines]),
        (grid.with_cost, "Operations", "true, per voxel", [line.cost for line in lines]),
        (grid.with_printed_cost, "Operations", "paper", [line.row.published_cost for line in lines]),
    ]
    return [(head, note, values) for present, head, note, values in found if present]


def _tests(result: TableResult) -> Iterator[Section]:
    statements = state_tests(result)
    if statements:
        heads = ("Column", "network", "against", "mean over cases", "95 % interval", "cases", "difference (95 %)", "p")
        rows = [
            (
                *(each.column, each.row, each.against, each.mean, each.interval, each.cases),
                *(each.difference, each.p, each.p_holm),
            )
            for each in statements
        ]
        tables = [("", _words((*heads, "p, Holm"), rows, 3))]
        yield section_of_blocks("tests", "Intervals and paired tests", lead=[TESTS], tables=tables)


def _charts(result: TableResult) -> Iterator[Section]:
    if any(figure.shows == "cost" and figure.file for figure in result.figures):
        return
    for place, column in enumerate(result.columns, start=1):
        figure = draw_efficiency(result, column.key) if column.metric == "dsc" and not column.structure else None
        if figure is not None:
            title = dataset_title(column.dataset)
            chart = {"uri": figure_uri(figure), "text": f"{column.title} of {title} against parameters and operations"}
            yield section_of_blocks(f"costs-{place}", f"Scores against cost: {title}", figures=[chart])


def _missing(result: TableResult) -> Iterator[Section]:
    absent = missing(result)
    if absent:
        table = _words(("Network", "column", "status", "reason"), absent, 4)
        yield section_of_blocks("missing", "Not in this table", tables=[("", table)])


def _notes(result: TableResult) -> Iterator[Section]:
    lines = [*result.notes]
    made = [f"{name} {value}" for name, value in result.versions.items()]
    if result.command:
        made.insert(0, f"Made by: {result.command}")
    if result.made:
        made.append(result.made)
    if lines:
        yield section_of_blocks("notes", "Notes", notes=lines)
    if made:
        yield section_of_blocks("made", "How it was made", lead=made)


_SECTIONS: tuple[Callable[[TableResult], Iterator[Section]], ...] = (
    *(_overview, _scores, _charts, _tests, _missing, _notes),
)
