"""Wrapping of lines to a given width without breaking words, paths and numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator


def cells(text: str) -> int:
    """Return the number of terminal columns of a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """Wrap a line at spaces; further lines are indented, and a longer word gets its own line.

    Example:
        >>> from deconvseg.progress import wrap
        >>> wrap("report: /data/run/report.html is there", 22)
        ['report:', '  /data/run/report.html', '  is there']

    """
    return list(_lines(text, width, indent))


def _lines(text: str, width: int, indent: str) -> Iterator[str]:
    line, empty = "", True
    for gap, word in re.findall(r"( *)([^ ]+)", text):
        if empty or cells(line) + len(gap) + cells(word) <= width:
            line += gap + word
        else:
            yield line
            line = indent + word
        empty = False
    yield line
