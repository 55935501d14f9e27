"""Tables of plain text that fit a terminal, without cut cells or broken words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from deconvseg.progress.wrapping import cells as columns_of
from deconvseg.progress.wrapping import wrap

_GAP = 2
_Row = Sequence[str]


def lay_out(headings: _Row, rows: Sequence[_Row], width: int | None, *, left: int = 1, rule: bool = True) -> list[str]:
    """Return the lines of a table; a table wider than ``width`` is split by columns into parts below each other.

    Every part has the first column. The first ``left`` columns are aligned to the left, the others to the right. With
    ``rule`` there is a line below the headings.
    """
    table = [headings, *rows]
    widths = [max(map(columns_of, column)) for column in zip(*table, strict=True)]
    lines: list[str] = []
    for group in _groups(widths, width):
        if lines:
            lines.append("")
        sides = [(widths[place], "left" if place < left else "right") for place in group]
        shown = [_join([_pad(row[place], *side) for place, side in zip(group, sides, strict=True)]) for row in table]
        lines += [shown[0], *(["─" * max(map(columns_of, shown))] if rule else []), *shown[1:]]
    return lines


def _groups(widths: Sequence[int], width: int | None) -> Iterator[list[int]]:
    """Yield the columns of each part of a table; the first column is in every part."""
    group = [0]
    for place in range(1, len(widths)):
        needed = sum(widths[one] + _GAP for one in group) + widths[place]
        if width is not None and needed > width and len(group) > 1:
            yield group
            group = [0]
        group.append(place)
    yield group


def lay_out_texts(headings: _Row, rows: Sequence[_Row], width: int) -> list[str]:
    """Return the lines of a table whose texts are wrapped in their columns.

    If the longest words leave no space for columns, each row is a paragraph: its first cell, then the others.
    """
    table = [headings, *rows]
    least = [max(_longest_word(cell) for cell in column) for column in zip(*table, strict=True)]
    room = width - _GAP * (len(headings) - 1)
    if sum(least) > room:
        return [line for row in rows for line in _paragraph(row, width)]
    widths = _share([max(map(columns_of, column)) for column in zip(*table, strict=True)], least, room)
    shown = [list(_wrap_row(row, widths)) for row in table]
    rule = "─" * min(width, sum(widths) + _GAP * (len(widths) - 1))
    return [*shown[0], rule, *(line for lines in shown[1:] for line in lines)]


def _longest_word(text: str) -> int:
    """Return the width of the longest word; the first word includes the indentation of the text."""
    indentation = len(text) - len(text.lstrip(" "))
    return max((columns_of(word) + indentation * (not place) for place, word in enumerate(text.split())), default=0)


def _share(wanted: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Divide the width: each column gets what it wants if possible; otherwise the widest columns are reduced."""
    widths = list(least)
    while sum(widths) < room:
        lacking = [have / want if have < want else 1.0 for have, want in zip(widths, wanted, strict=True)]
        poorest = min(range(len(widths)), key=lacking.__getitem__)
        if lacking[poorest] == 1.0:
            break
        widths[poorest] += 1
    return widths


def _wrap_row(row: _Row, widths: Sequence[int]) -> Iterator[str]:
    wrapped = [wrap(cell, side, "") for cell, side in zip(row, widths, strict=True)]
    for parts in zip_longest(*wrapped, fillvalue=""):
        yield _join([_pad(part, side, "left") for part, side in zip(parts, widths, strict=True)])


def _paragraph(row: _Row, width: int) -> Iterator[str]:
    yield from wrap(row[0], width, "    ")
    for cell in row[1:]:
        yield from (f"  {line}" for line in wrap(cell, width - 2, ""))


def _pad(text: str, width: int, side: str) -> str:
    space = " " * (width - columns_of(text))
    return text + space if side == "left" else space + text


def _join(parts: Sequence[str]) -> str:
    return (" " * _GAP).join(parts).rstrip()
