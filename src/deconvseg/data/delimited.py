"""Read delimited tables: commas, semicolons or tabs, with or without a byte order mark."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError
from deconvseg.system import does_not_exist, one_line

_DELIMITERS = (",", ";", "\t", "|")
# A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection"), full-width forms too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True)
class Table:
    """The columns of a table in order, and its non-empty rows, each with its line number in the file."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]


def guard_cell(value: Any) -> Any:
    """Return a cell that no spreadsheet runs: a text that would be a formula is prefixed with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.lstrip("'").startswith(_FORMULA) else value


def unguard_cell(text: str) -> str:
    """Return the original text of a cell from `guard_cell`."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text


def read_table(path: Path) -> Table:
    """Read a table whose first line names the columns; cells are stripped, and missing cells are empty.

    The delimiter is the most frequent one of the first line, unless a line such as ``sep=;`` before it sets it. Raises
    `InputError` for a missing file, a file that is not text in UTF-8 (or UTF-16 with a byte order mark), a repeated
    column, and a row with more cells than columns.
    """
    text = read_text(path)
    lines = io.StringIO(text, newline="")
    skipped, delimiter = 0, None
    first = lines.readline()
    if first.strip().strip('"').lower().startswith("sep=") and len(first.strip().strip('"')) == 5:
        skipped, delimiter = 1, first.strip().strip('"')[4]
        first = lines.readline()
    delimiter = delimiter or max(_DELIMITERS, key=first.count)
    lines = io.StringIO("".join(text.splitlines(keepends=True)[skipped:]), newline="")
    try:
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        rows = [(reader.line_num + skipped, row) for row in reader]
    except csv.Error as error:
        raise _no_table(path, error) from error
    header = rows.pop(0)[1] if rows else []
    columns = tuple(cell.strip() for cell in header)
    named = [column for column in columns if column]
    twice = next((column for column in named if named.count(column) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has the column {twice} twice; rename or remove one")
    return Table(columns, tuple((line, _row(path, line, columns, cells)) for line, cells in rows if any(cells)))


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8, or UTF-16 with a byte order mark; `InputError` for other content."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(does_not_exist(path)) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        text = content.decode(_MARKS.get(content[:2], "utf-8-sig"))
    except UnicodeError as error:
        raise _no_table(path, error) from error
    if "\0" in text:
        raise _no_table(path, ValueError("it has NUL bytes"))
    return text


def _row(path: Path, line: int, columns: tuple[str, ...], cells: list[str]) -> dict[str, str]:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise InputError(
            f"{path}, line {line}: has {len(cells)} cells for {len(columns)} columns; put a cell that holds the "
            "delimiter in quotation marks"
        )
    padded = [cell.strip() for cell in cells] + [""] * len(columns)
    return dict(zip(columns, padded[: len(columns)], strict=True))


def _no_table(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is not a readable CSV file ({one_line(error):.200}); save it as UTF-8 with commas")
