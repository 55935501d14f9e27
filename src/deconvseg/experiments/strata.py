"""The quantity by which the folds of a cross-validation are balanced."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

from deconvseg.data import Dataset, measure_foreground, read_column
from deconvseg.errors import InputError
from deconvseg.progress import Console


def measure_strata(
    data: Dataset,
    *,
    stratify: str | None,
    table: str | PathLike[str] | None,
    root: str | PathLike[str],
    console: Console,
) -> Mapping[str, float | str]:
    """Return by case name the column ``stratify`` of a ``table``, or the foreground's volume in mm³.

    A CSV dataset is its own table; ``root`` is its path. Raises :class:`InputError` if one of the two is missing.
    """
    if stratify is not None:
        if table is None and data.layout != "csv":
            raise InputError(f"`stratify={stratify!r}`: give the .csv or .tsv file with this column as `table`")
        own = data.layout == "csv" and table in (None, root)
        return read_column(table or root, stratify, data.names, lists_dataset=own)
    if table is not None:
        raise InputError(f"`table={str(table)!r}`: give the column by which folds are balanced as `stratify`")
    return measure_foreground(data, console=console)
