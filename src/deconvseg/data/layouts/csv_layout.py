"""Datasets listed in a CSV file: a row per case; the header names the channels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from deconvseg.data.dataset import Case, Dataset, Exclusion, Problem, list_names
from deconvseg.data.delimited import read_table
from deconvseg.data.file_names import case_stem
from deconvseg.data.json_files import read_json
from deconvseg.data.layouts.excluding import is_marked
from deconvseg.data.layouts.left_out import find_unlisted
from deconvseg.data.listing import channel_of, find_splits, guess_channels, locate
from deconvseg.errors import InputError

_SPLITS = {
    **{"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"},
    **{"test": "test", "testing": "test"},
}

# The columns that may contain the group of a case, in order of priority.
_GROUPS = ("group", "subject", "subject_id", "patient", "patient_id", "participant_id")
_REASONS = ("reason", "exclude_reason")
_MEANINGS = frozenset(("image", "label", "mask", "case", "split", "exclude", *_GROUPS))


@dataclass(frozen=True)
class _Table:
    """A parsed CSV file: its cases in row order, the columns of channels, the splits and the excluded cases."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    cases: tuple[Case, ...]
    image_columns: tuple[str, ...]
    splits: tuple[str, ...] | None
    excluded: tuple[Exclusion, ...] = ()


def is_csv(path: Path) -> bool:
    """Return whether the path is a CSV file."""
    return path.is_file() and path.suffix.lower() == ".csv"


def open_csv(path: Path) -> Dataset:
    """Open a CSV dataset: image paths in ``image`` or one column per channel, mask paths in ``label`` or ``mask``.

    Without a column for masks all cases are for prediction.

    Channels are the columns ``image_0``, ``image_1`` … in the order of their numbers, or ``image_T1``, ``image_T2`` …
    in column order, which are then named T1, T2, …. The optional column ``case`` names the cases, and ``split`` gives
    their splits. Cases with an equal ``group`` (or ``subject``, ``patient``, with or without ``_id``, or
    ``participant_id``) stay in one fold. Rows
    whose column ``exclude`` is marked (true, 1, yes, x) are left out, for the ``reason`` in the same row.
    """
    table = _read_table(path)
    unnamed = table.image_columns == ("image",)
    splits_file, told = (None, ()) if table.splits is not None else _splits_beside(path, table.cases)
    listed = [file for case in table.cases for file in (*case.images, case.label) if file is not None]
    return Dataset(
        root=path,
        layout="csv",
        cases=table.cases,
        channel_names=guess_channels([case.images[0] for case in table.cases])
        if unnamed
        else tuple(name if _is_numbered(name) else name.removeprefix("image_") for name in table.image_columns),
        guessed_channels=unnamed,
        splits_file=splits_file if table.splits is None else path,
        excluded=table.excluded,
        problems=(*told, *find_unlisted(path, (file.parent for case in table.cases for file in case.images), listed)),
    )


def _splits_beside(path: Path, cases: Sequence[Case]) -> tuple[Path | None, tuple[Problem, ...]]:
    """Return the splits file next to a table if it names only cases of the table, and notes about it."""
    found = find_splits(path.parent)
    if found is None:
        return None, ()
    names = {case.name for case in cases}
    try:
        listed = _names_in(read_json(found))
    except InputError as error:
        return None, (Problem(str(found), f"is not used: {str(error).removeprefix(str(found)).strip()}", "warning"),)
    if listed and listed <= names:
        message = f"is used, because it names cases of {path.name}; a column split, or `splits`, says otherwise"
        return found, (Problem(str(found), message, "warning"),)
    others = list_names(sorted(listed - names), limit=3)
    why = f"names {others}, which {path.name} does not have" if others else "names no case"
    return None, (Problem(str(found), f"is not used, because it {why}; give it as `splits` if it is meant", "warning"),)


def _names_in(record: object) -> set[str]:
    """Return all names in a splits record of any structure."""
    names: set[str] = set()
    waiting = [record]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            names.add(normalize("NFC", part))
        elif isinstance(part, (dict, list)):
            waiting += part.values() if isinstance(part, dict) else part
    return names


def read_csv_splits(path: Path) -> dict[str, list[str]]:
    """Return the case names by split (train, val, test) from the column ``split``; empty cells are in no split."""
    table = _read_table(path)
    if table.splits is None:
        raise InputError(f"{path} has no column split; add one with train, val or test, or give a .json file")
    found: dict[str, list[str]] = {}
    for case, split in zip(table.cases, table.splits, strict=True):
        if split:
            found.setdefault(split, []).append(case.name)
    return found


def read_csv_column(path: Path, column: str) -> dict[str, str]:
    """Return the texts of a column by case name; `InputError` if there is no such column."""
    table = _read_table(path)
    if column not in table.columns:
        raise InputError(f"{path} has no column {column!r}; it has {', '.join(table.columns)}")
    return {case.name: row[column] for case, row in zip(table.cases, table.rows, strict=True)}


def _read_table(path: Path) -> _Table:
    table = read_table(path)
    columns = [_known(name) for name in table.columns]
    rows = [(line, {_known(name): cell for name, cell in row.items()}) for line, row in table.rows]
    image_columns = _image_columns(columns)
    label_columns = [name for name in ("label", "mask") if name in columns]
    if not image_columns or len(label_columns) > 1:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or 'none'}, but needs image (or one per channel: image_0, "
            "image_1, … or image_T1, image_T2, …) and, for training, label (or mask)"
        )
    if not rows:
        raise InputError(f"{path} has no rows; add one per case")
    cases = tuple(_case(path, number, row, image_columns, label_columns) for number, row in rows)
    twice = sorted(name for name, times in Counter(case.name for case in cases).items() if times > 1)
    if twice:
        raise InputError(
            f"{path} names the case {list_names(twice)} more than once; add a column case with unique names"
        )
    splits = tuple(_split(path, number, row) for number, row in rows) if "split" in columns else None
    excluded = _excluded(path, rows, cases) if "exclude" in columns else ()
    return _Table(tuple(columns), tuple(row for _, row in rows), cases, image_columns, splits, excluded)


def _excluded(
    path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], cases: Sequence[Case]
) -> tuple[Exclusion, ...]:
    return tuple(
        Exclusion(case.name, next((text for column, text in row.items() if column.lower() in _REASONS and text), ""))
        for (number, row), case in zip(rows, cases, strict=True)
        if is_marked(row["exclude"], f"{path}, line {number}")
    )


def _known(column: str) -> str:
    """Return the name of a column: known names in lower case, names of channels unchanged."""
    lower = column.lower()
    if lower.startswith("image_"):
        return f"image_{column[6:]}"
    return lower if lower in _MEANINGS else column


def _image_columns(columns: list[str]) -> tuple[str, ...]:
    numbered = sorted(filter(_is_numbered, columns), key=lambda name: int(name[6:]))
    named = [name for name in columns if re.fullmatch(r"image_.+", name)]
    return tuple(numbered or [name for name in columns if name == "image"] or named)


def _is_numbered(column: str) -> bool:
    return re.fullmatch(r"image_\d+", column) is not None


def _case(path: Path, number: int, row: Mapping[str, str], images: tuple[str, ...], labels: Sequence[str]) -> Case:
    cells = [row[name] for name in images]
    if not all(cells):
        raise InputError(f"{path}, line {number}: {images[cells.index('')]} is empty; every case needs it")
    files = tuple(locate(path.parent, cell) for cell in cells)
    mask = next((locate(path.parent, row[label]) for label in labels if row[label]), None)
    channel = channel_of(files[0])
    default = channel[0] if channel and len(files) > 1 else case_stem(files[0])
    group = next((row[column] for column in _GROUPS if row.get(column)), None)
    return Case(normalize("NFC", row.get("case", "")) or default, files, mask, group)


def _split(path: Path, number: int, row: Mapping[str, str]) -> str:
    given = row["split"]
    if given and given.lower() not in _SPLITS:
        raise InputError(f"{path}, line {number}: the split is {given!r}; known are train, val and test")
    return _SPLITS[given.lower()] if given else ""
