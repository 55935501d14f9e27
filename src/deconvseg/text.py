"""Text from files, file names and docstrings, made safe to print and to store."""

import inspect
import json
import math
import re
from collections.abc import Mapping
from typing import Any

# C0 and C1 control characters (ANSI escapes, line breaks), invisible and zero-width characters, bidirectional marks,
# line separators, lone surrogates (bytes of a file name that are not UTF-8), tags.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape_controls(text: str) -> str:
    """Return the text with control and invisible characters replaced by their Python escapes."""
    return _UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def dump_json(tree: Any) -> str:
    """Return indented, strict JSON: NaN and infinities become null, and unprintable characters are escaped.

    JSON cannot contain lone surrogates (bytes of a file name that are not UTF-8); their escapes are written as text.
    """
    text = json.dumps(_finite(tree), indent=2, ensure_ascii=False, allow_nan=False)
    # The remaining line breaks separate JSON entries; those in strings are already escaped.
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] == "\n" else _escape_in_json(match[0]), text)


def _escape_in_json(character: str) -> str:
    return json.dumps(_escape(character) if "\ud800" <= character <= "\udfff" else character)[1:-1]


def _escape(character: str) -> str:
    code = ord(character)
    form = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(character, form)


def _finite(tree: Any) -> Any:
    if isinstance(tree, float):
        return tree if math.isfinite(tree) else None
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return tree


def number_of(count: int, noun: str) -> str:
    """Return a number with its noun in the singular or the plural.

    Example:
        >>> from deconvseg.text import number_of
        >>> number_of(1, "case"), number_of(2, "case")
        ('1 case', '2 cases')

    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain_documentation(text: str) -> str:
    """Return a docstring without reStructuredText markup: ``name`` and :func:`~package.name` become name."""
    named = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", inspect.cleandoc(text))
    return named.replace("``", "").replace("\\*", "*")
