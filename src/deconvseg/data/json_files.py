"""Read JSON files; one-line errors name the file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from deconvseg.errors import InputError
from deconvseg.system import does_not_exist, one_line


def read_json(path: Path) -> Any:
    """Return the content of a JSON file in UTF-8 (with or without byte order mark; with one also UTF-16).

    Raises `InputError` that names the file, and the line if it is not valid JSON. Repeated keys of an object, NaN,
    infinity, numbers beyond float64, unpaired surrogates and too many levels are also errors.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(does_not_exist(path)) from error
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_json(content, str(path))


def parse_json(content: bytes | str, where: str) -> Any:
    """Parse a JSON text as `read_json` does; errors name its source ``where``."""
    try:
        text = content if isinstance(content, str) else content.decode(json.detect_encoding(content))
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\u" in text:
            # An unpaired surrogate cannot be encoded, so no file could be written with this string.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({one_line(error):.200}); correct it") from error
    return value


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that contains an object; `InputError` names the file if it does not."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise InputError(f"{path} must hold a JSON object, not a {type(record).__name__}")
    return record


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, after a check for repeated keys: ``json`` would silently use the last value."""
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text:.40} is beyond float64")
    return number
