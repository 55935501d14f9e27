"""The quantity by which the folds of a cross-validation are balanced."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike

import numpy as np

from deconvseg.data import Dataset, count_values, read_column
from deconvseg.errors import InputError
from deconvseg.progress import Console, each


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
    volumes: dict[str, float | str] = {}
    for case in each(data.cases, "measuring the foreground", console, lambda case: case.name):
        label = data.load_label(case)
        assert label is not None
        counts = count_values(label.pixels)
        voxels = sum(count for value, count in counts.items() if value not in (0, data.ignore_label))
        volumes[case.name] = voxels * float(np.prod(label.geometry.spacing))
    return volumes
