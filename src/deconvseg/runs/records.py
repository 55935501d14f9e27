"""Small files of a run that are one checked JSON object each."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from deconvseg.data import read_json_object
from deconvseg.errors import InputError

_Record = TypeVar("_Record", bound=BaseModel)


def read_record(path: Path, kind: type[_Record], remedy: str) -> _Record | None:
    """Return the record of a file; None if it does not exist.

    An :class:`InputError` names the file, an invalid key, and the ``remedy``.
    """
    if not path.exists():
        return None
    read_json_object(path)
    try:
        return kind.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {key}: {first['msg']}; {remedy}") from error
