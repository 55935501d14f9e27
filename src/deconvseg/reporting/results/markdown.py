"""A result as a Markdown page."""

from collections.abc import Iterator, Sequence

from deconvseg.reporting.results.grid import (
    EXPLANATION,
    TESTS,
    Entry,
    build_grid,
    column_title,
    dataset_title,
    missing,
    state_tests,
)
from deconvseg.reporting.results.model import ResultFigure, TableResult
from deconvseg.text import escape_controls

_MARKS = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\|*_`<>[]#"})


def render_markdown(result: TableResult) -> str:
    """Return the result as Markdown: scores, tests, what was scaled, what is missing, notes."""
    return "\n".join(_lines(result)).rstrip() + "\n"


def _lines(result: TableResult) -> Iterator[str]:
    yield f"# {_text(result.title)}\n"
    yield f"{EXPLANATION} {_text(result.paper)}.\n" if result.paper else f"{EXPLANATION}\n"
    yield from _table(*_scores(result))
    if result.scaled:
        yield "## Settings other than the paper's\n"
        yield from _table(
            ["setting", "paper", "here"], [[_text(t) for t in (s.what, s.paper, s.here)] for s in result.scaled]
        )
    tests = state_tests(result)
    if tests:
        yield f"## Intervals and paired tests\n\n{TESTS}\n"
        heads = ["column", "network", "mean over cases", "95 % interval", "cases", "against", "difference (95 %)", "p"]
        rows = [
            [
                *(_text(test.column), _text(test.row), test.mean, test.interval, test.cases, _text(test.against)),
                *(test.difference, test.p, test.p_holm),
            ]
            for test in tests
        ]
        yield from _table([*heads, "p, Holm"], rows)
    if result.figures:
        yield "## Figures\n"
        yield from (_figure(figure) for figure in result.figures)
    absent = missing(result)
    if absent:
        yield "## Not in this table\n"
        yield from _table(["network", "column", "status", "reason"], [[_text(text) for text in row] for row in absent])
    if result.notes:
        yield "## Notes\n"
        yield from (f"- {_text(note)}" for note in result.notes)
        yield ""
    yield from _origin(result)


def _scores(result: TableResult) -> tuple[list[str], list[list[str]]]:
    grid = build_grid(result)
    heads = ["network"]
    heads += ["parameters"] * grid.with_parameters + ["parameters, paper"] * grid.with_printed_parameters
    heads += ["true cost per voxel"] * grid.with_cost + ["cost, paper"] * grid.with_printed_cost
    for place, column in enumerate(grid.columns):
        title = f"{_text(dataset_title(column.dataset))}, {_text(column_title(column))}"
        heads += [title, *(["paper"] if grid.has_published(place) else [])]
    rows = []
    for line in grid.lines:
        cells = [_text(line.row.title)]
        cells += [line.parameters] * grid.with_parameters
        cells += [_text(line.row.published_parameters)] * grid.with_printed_parameters
        cells += [line.cost] * grid.with_cost + [_text(line.row.published_cost)] * grid.with_printed_cost
        for place, (ours, printed) in enumerate(zip(line.ours, line.published, strict=True)):
            cells += [_entry(ours), *([_entry(printed)] if grid.has_published(place) else [])]
        rows.append(cells)
    return heads, rows


def _figure(figure: ResultFigure) -> str:
    if not figure.file:
        return f"{_text(figure.name)}: not drawn: {_text(figure.reason)}\n"
    note = f": {_text(figure.note)}" if figure.note else ""
    return f"{_text(figure.name)}{note}\n\n![{_text(figure.name)}]({figure.file})\n"


def _entry(entry: Entry) -> str:
    return _MARKS[entry.mark].format(entry.text)


def _origin(result: TableResult) -> Iterator[str]:
    if result.command:
        yield f"## Made by\n\n```sh\n{escape_controls(result.command)}\n```\n"
    made = ", ".join(
        [*(f"{name} {value}" for name, value in result.versions.items()), *([result.made] if result.made else [])]
    )
    if made:
        yield f"{_text(made)}.\n"


def _text(text: str) -> str:
    return escape_controls(text).translate(_SPECIAL)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""
