"""The files of a result."""

from os import PathLike
from pathlib import Path

from deconvseg.reporting.results.model import RESULT_FILE, TableResult, result_text
from deconvseg.system import write_text


def write_results(result: TableResult, folder: "str | PathLike[str]") -> list[Path]:
    """Write a result into a folder, which is created, and return the files: ``result.json`` first.

    Files of an earlier result are replaced, each at once.

    Example:
        >>> from deconvseg.reporting import TableResult, write_results
        >>> table = TableResult(key="mine/table-1", title="Two networks", columns=(), rows=())
        >>> write_results(table, "table")[0].name
        'result.json'

    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    write_text(target / RESULT_FILE, result_text(result))
    return [target / RESULT_FILE]
