"""Validation of a run's JSON files; errors name the damaged file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from deconvseg.data import read_json_object
from deconvseg.errors import InputError


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Machine(_Strict):
    threads: int | None = None


class _Manifest(_Strict):
    """The entries of a manifest that are read; all are optional, because runs may be shared without them."""

    files: dict[str, str] = {}
    # Runs of early versions have one hash or None instead of a list.
    replaced: dict[str, list[str] | str | None] = {}
    machine: _Machine = _Machine()
    finished: bool = False


class _Splits(_Strict):
    model_config = ConfigDict(strict=True, extra="forbid")

    train: list[str]
    val: list[str]
    test: list[str]


_ROW = TypeAdapter(dict[str, int | float | None], config=ConfigDict(strict=True))


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the content of a ``manifest.json``; :class:`InputError` names a wrong key."""
    return _checked(path, _Manifest)


def read_split_names(path: Path) -> dict[str, list[str]]:
    """Return the content of a run's ``splits.json``; :class:`InputError` names a wrong key."""
    return _checked(path, _Splits)


def parse_row(line: str) -> dict[str, Any]:
    """Parse a line of a ``metrics.jsonl``; ``ValueError`` if it is not a row of numbers with an epoch."""
    try:
        row: dict[str, Any] = _ROW.validate_python(json.loads(line))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(row.get("epoch"), int):
        raise ValueError("no epoch")
    return row


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``, empty if it is missing; :class:`InputError` names an invalid line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); copy the run again") from error
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            row = parse_row(line)
            # Epochs count from 0, and each has one row.
            if row["epoch"] != len(rows):
                raise ValueError("the epochs are not in order")
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not a row of metrics; copy the run again") from error
        rows.append(row)
    return rows


def _checked(path: Path, kind: type[_Strict]) -> dict[str, Any]:
    tree = read_json_object(path)
    check_entries(path, tree, kind)
    return tree


def check_entries(path: Path, tree: Mapping[str, Any], kind: type[BaseModel]) -> None:
    """Raise :class:`InputError`, which names the file and the entry, for an entry of a wrong type."""
    try:
        kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where!r}: {first['msg']}; the file is damaged: copy the run again") from error
