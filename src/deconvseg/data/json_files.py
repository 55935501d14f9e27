"""JSON files read safely: what is wrong with one is said in one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deconvseg.errors import InputError


def read_json(path: Path) -> Any:
    """The content of a JSON file; `InputError` names the file, and the line where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); correct it") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file whose content is an object; `InputError` names the file where it is not."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(record).__name__}")
    return record
