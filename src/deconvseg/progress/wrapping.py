"""Lines of a given width, in which no word, path or number is broken."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator


def cells(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """Break a line at its spaces; those after the first are indented, and what is longer than a line has its own.

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
