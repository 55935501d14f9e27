"""The files of a result."""

from os import PathLike
from pathlib import Path

from deconvseg.reporting.results.latex import render_latex
from deconvseg.reporting.results.markdown import render_markdown
from deconvseg.reporting.results.model import RESULT_FILE, TableResult, result_text
from deconvseg.reporting.results.page import render_html
from deconvseg.reporting.results.values import render_csv
from deconvseg.system import write_text

_FILES = {
    RESULT_FILE: result_text,
    "table.md": render_markdown,
    "table.tex": render_latex,
    "table.csv": render_csv,
}


def write_results(result: TableResult, folder: "str | PathLike[str]") -> list[Path]:
    """Write a result into a folder, which is created, and return the files.

    They are ``result.json``, from which :func:`read_results` makes the same result; ``table.md``; ``table.tex``, a
    table with the rules of booktabs; ``table.csv`` with one row for each cell, fold and seed; and ``table.html``, a
    page that loads nothing else. Files of an earlier result are replaced, each at once.

    Example:
        >>> from deconvseg.reporting import published_result, write_results
        >>> [file.name for file in write_results(published_result("dtc/table-1"), "table")]
        ['result.json', 'table.md', 'table.tex', 'table.csv', 'table.html']

    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    texts = {target / name: render(result) for name, render in _FILES.items()}
    texts[target / "table.html"] = render_html(result, target)
    for file, text in texts.items():
        write_text(file, text)
    return list(texts)
