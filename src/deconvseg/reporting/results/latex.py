"""A result as a table for LaTeX."""

from collections.abc import Iterator

from deconvseg.reporting.results.grid import EXPLANATION, Entry, Grid, build_grid, column_title
from deconvseg.reporting.results.model import TableResult
from deconvseg.text import escape_controls

_MARKS = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", "": "{}"}
_SPECIAL = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
        **{"±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "∞": r"$\infty$", "λ": r"$\lambda$"},
        **{"−": "$-$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\to$", "·": r"$\cdot$", "–": "--"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "²": "$^2$", "³": "$^3$"},
    }
)


def render_latex(result: TableResult) -> str:
    r"""Return the result as a ``table`` environment with the rules of ``booktabs``, for ``\input``.

    It needs ``\usepackage{booktabs,graphicx}`` and no other package. A table wider than the line is scaled down to it.
    Signs outside ASCII become commands where the classic engines have one, and ``?`` otherwise; Latin letters with
    accents stay.
    """
    return "\n".join(_lines(result)) + "\n"


def _lines(result: TableResult) -> Iterator[str]:
    grid = build_grid(result)
    sizes = _sizes(grid)
    spans = [1 + grid.has_published(place) for place in range(len(grid.columns))]
    yield f"% {_comment(result.key)}: \\usepackage{{booktabs,graphicx}} in the preamble, and \\input this file"
    yield r"\begin{table}"
    yield r"\centering"
    yield rf"\caption{{{_text(result.title)}. {_text(EXPLANATION)}{_scaled(result)}}}"
    yield rf"\label{{tab:{_label(result.key)}}}"
    yield rf"\sbox0{{\begin{{tabular}}{{l{'r' * (len(sizes) + sum(spans))}}}"
    yield r"\toprule"
    if grid.columns:
        yield from _heads(grid, spans, len(sizes))
    yield _row(["Network", *(head for head, _ in sizes), *_subheads(grid)])
    yield r"\midrule"
    for place, line in enumerate(grid.lines):
        cells = [_text(line.row.title), *(_text(values[place]) for _, values in sizes)]
        for column, (ours, printed) in enumerate(zip(line.ours, line.published, strict=True)):
            cells += [_entry(ours), *([_entry(printed)] if grid.has_published(column) else [])]
        yield _row(cells)
    yield r"\bottomrule"
    yield r"\end{tabular}}"
    yield r"\resizebox{\ifdim\wd0>\linewidth\linewidth\else\wd0\fi}{!}{\usebox0}"
    yield r"\end{table}"


def _sizes(grid: Grid) -> list[tuple[str, list[str]]]:
    """The columns of sizes and costs: head and text of every row."""
    lines = grid.lines
    found = [
        (grid.with_parameters, "Params", [line.parameters for line in lines]),
        (grid.with_printed_parameters, "paper", [line.row.published_parameters for line in lines]),
        (grid.with_cost, "Cost/voxel", [line.cost for line in lines]),
        (grid.with_printed_cost, "paper", [line.row.published_cost for line in lines]),
    ]
    return [(head, values) for present, head, values in found if present]


def _heads(grid: Grid, spans: list[int], sizes: int) -> Iterator[str]:
    """Two rows of heads, datasets and metrics, each with rules below what it spans."""
    empty = [""] * (1 + sizes)
    cells, rules, first = [*empty], [], 2 + sizes
    for title, places in grid.groups:
        width = sum(spans[place] for place in places)
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_text(title)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    yield _row(cells)
    yield " ".join(rules)
    titles = [_text(column_title(column)) for column in grid.columns]
    yield _row(
        [*empty, *(rf"\multicolumn{{{span}}}{{c}}{{{title}}}" for span, title in zip(spans, titles, strict=True))]
    )


def _subheads(grid: Grid) -> Iterator[str]:
    for place in range(len(grid.columns)):
        yield "here"
        if grid.has_published(place):
            yield "paper"


def _scaled(result: TableResult) -> str:
    if not result.scaled:
        return ""
    changed = "; ".join(f"{each.what} {each.here} (paper: {each.paper})" for each in result.scaled)
    return f" Other than in the paper: {_text(changed)}."


def _entry(entry: Entry) -> str:
    return _MARKS[entry.mark].format(_text(entry.text))


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _label(key: str) -> str:
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in key)


def _comment(text: str) -> str:
    return escape_controls(text).encode("ascii", "replace").decode()


def _text(text: str) -> str:
    translated = escape_controls(text).translate(_SPECIAL)
    return "".join(character if character.isascii() or _is_letter(character) else "?" for character in translated)


def _is_letter(character: str) -> bool:
    """Whether the classic engines have the letter in their default encoding: Latin with accents."""
    return character.isalpha() and "\u00c0" <= character <= "\u017f"
