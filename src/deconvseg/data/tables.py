"""Tables of cases: read a column (age, site, scanner), and write tables that are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data.bids_names import subject_of
from deconvseg.data.dataset import list_names
from deconvseg.data.delimited import guard_cell, read_table, unguard_cell
from deconvseg.data.file_names import case_stem
from deconvseg.data.layouts.csv_layout import read_csv_column
from deconvseg.errors import InputError
from deconvseg.system import atomic_write

_CASE_COLUMNS = ("case", "case_id", "name", "participant_id", "subject", "image", "image_0")


def write_table(path: str | PathLike[str], rows: Sequence[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """Write rows as a CSV file, atomically; the header is ``columns`` followed by all other keys of the rows.

    A text that a spreadsheet would run as a formula is prefixed with an apostrophe, which `read_column` removes again;
    numbers do not change.
    """
    header = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    with (
        atomic_write(path) as target,
        # Bytes of a file name that are not UTF-8 are preserved.
        target.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow([guard_cell(key) for key in header])
        writer.writerows([guard_cell(row.get(key)) for key in header] for row in rows)


def read_column(
    path: str | PathLike[str], column: str, names: Sequence[str], *, lists_dataset: bool = False
) -> dict[str, float | str]:
    """Return the values of a column of a CSV or TSV file by case name: numbers if all are numbers, else texts.

    Case names are read from the column ``case`` (or ``case_id``, ``name``, ``participant_id``, ``subject``, or the
    file names in ``image``), else from the first column. With ``lists_dataset`` the file is a CSV dataset, and its
    cases are named as by `open_dataset`. A BIDS case without its own row (``sub-01_ses-1``) uses the row of its
    subject (``sub-01``). Raises `InputError` for a missing column, a case of ``names`` without a value, and a case
    with two rows.
    """
    path = Path(path)
    texts, source = (read_csv_column(path, column), "their images") if lists_dataset else _read_texts(path, column)
    chosen = {name: texts.get(name) or texts.get(subject_of(name), "") for name in names}
    if missing := [name for name, text in chosen.items() if not text]:
        raise InputError(f"{path} has no {column} for {list_names(missing)} (cases are read from {source}); add it")
    try:
        numbers = {name: float(text) for name, text in chosen.items()}
    except ValueError:
        return dict(chosen)
    return dict(numbers) if all(map(math.isfinite, numbers.values())) else dict(chosen)


def _read_texts(path: Path, column: str) -> tuple[dict[str, str], str]:
    """Return the texts of a column by case name, and the source of the names."""
    table = read_table(path)
    columns, rows = table.columns, [row for _, row in table.rows]
    if column not in columns:
        raise InputError(f"{path} has no column {column!r}; it has {', '.join(columns) or 'none'}")
    key = next((name for name in _CASE_COLUMNS if name in columns), columns[0])
    texts: dict[str, str] = {}
    for row in rows:
        name = case_stem(unguard_cell(row[key]))
        if name in texts:
            raise InputError(f"{path} has several rows for the case {name!r} (column {key!r}); keep one")
        texts[name] = unguard_cell(row[column])
    return texts, f"the column {key!r}"
