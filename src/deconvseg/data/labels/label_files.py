"""Label files: JSON, tables, and the formats of ITK-SNAP, 3D Slicer, FreeSurfer, nnU-Net and BIDS."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data.colours import parse_colour
from deconvseg.data.delimited import Table, read_table, read_text, unguard_cell
from deconvseg.data.json_files import read_json
from deconvseg.data.labels.declared import BACKGROUND, LabelEntry, make_entry, parse_label
from deconvseg.errors import InputError

# Names of label files that are read automatically from a dataset's folder.
LABEL_FILES = ("labels.json", "labels.csv", "labels.tsv", "labels.txt", "labels.ctbl")

_VALUES = ("value", "index", "labelvalue", "labelid", "id", "label")
_NAMES = ("name", "labelname", "class", "classname", "structure")
_COLOURS = ("colour", "color", "hex")
_CHANNELS = (("red", "green", "blue"), ("r", "g", "b"), ("colorr", "colorg", "colorb"))
# 1  255 0 0  1  1 1  "Left kidney": value, colour, opacity, two flags, name.
_ITK_SNAP = re.compile(r'(-?\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.]+\s+\d\s+\d\s+"(.*)"')
# 1 Left_kidney 255 0 0 255: a colour table of Slicer or FreeSurfer.
_COLOUR_TABLE = re.compile(r"(-?\d+)\s+(\S(?:.*\S)?)\s+(\d+)\s+(\d+)\s+(\d+)\s+\d+")
_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[,;+ ]|$)")


class NoLabelFileError(InputError):
    """A file that contains no names of labels."""


def read_label_file(path: str | PathLike[str]) -> list[LabelEntry]:
    """Read the entries of a label file, in the format of its suffix.

    ``.json``: names by value or values by name, at the top level or under ``"labels"`` (nnU-Net's ``dataset.json``),
    optionally with ``"colours"`` by name or value. ``.csv`` and ``.tsv``: the columns ``value`` (or ``index``,
    ``label``, …), ``name`` and optionally ``colour``, or red, green and blue (BIDS's ``dseg.tsv``, Slicer's tables).
    ``.txt``, ``.ctbl`` and ``.label``: the label descriptions of ITK-SNAP, colour tables of Slicer and FreeSurfer, or a
    line ``1=organ:#ff8800`` each. Raises `NoLabelFileError` for a file that is not a label file, and `InputError` for
    an invalid entry.

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import read_label_file
        >>> _ = Path("labels.csv").write_text("value,name,colour\\n1,organ,#ff8800\\n")
        >>> [str(entry) for entry in read_label_file("labels.csv")]
        ['1=organ:#ff8800']

    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise NoLabelFileError(
            f"{path} is neither a label file ({', '.join(_READERS)}) nor a label; write 1=organ, 1=organ:#ff8800, "
            "255=ignore, or a region such as tumour=1,2"
        )
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file of labels, or 1=organ")
    entries = reader(path)
    if not entries:
        raise NoLabelFileError(f"{path} names no labels; write one per line, such as 1=organ")
    return entries


def parse_labels(texts: Iterable[str]) -> list[LabelEntry]:
    """Return the entries of texts such as ``1=organ`` (`parse_label`) and of label files (`read_label_file`), in order.

    Example:
        >>> from deconvseg.data import parse_labels
        >>> [entry.name for entry in parse_labels(["1=organ", "2=lesion"])]
        ['organ', 'lesion']

    """
    entries = []
    for text in texts:
        if "=" in text and not Path(text).is_file():
            entries.append(parse_label(text))
        else:
            entries += read_label_file(text)
    return entries


def _read_json(path: Path) -> list[LabelEntry]:
    tree = read_json(path)
    colours: Mapping[str, Any] = {}
    if isinstance(tree, Mapping) and isinstance(tree.get("labels"), (Mapping, list)):
        colours = tree.get("colours", tree.get("colors", {}))
        tree = tree["labels"]
    if not isinstance(colours, Mapping):
        raise InputError(f'{path}: "colours" must be an object of names and colours, not {colours!r:.60}')
    rows = list(tree.items()) if isinstance(tree, Mapping) else None
    if isinstance(tree, list) and all(isinstance(row, Mapping) and "value" in row for row in tree):
        rows = [(str(row["value"]), row) for row in tree]
    if rows is None or not all(_is_entry(key, value) for key, value in rows):
        raise NoLabelFileError(f'{path} names no labels; write {{"1": "organ", "2": "lesion"}}, or {{"organ": 1}}')
    entries = [_json_entry(str(key), value, colours, path) for key, value in rows]
    known = {text for entry in entries for text in (entry.name, *map(str, entry.values))}
    if unknown := [name for name in colours if name not in known]:
        raise InputError(
            f'{path}: "colours" has {unknown[0]!r}, which is not a label; the labels are {", ".join(sorted(known))}'
        )
    return entries


def _is_entry(key: object, value: object) -> bool:
    if _is_integer_text(str(key)):
        return isinstance(value, str) or (isinstance(value, Mapping) and isinstance(value.get("name"), str))
    return _is_integer(value) or (isinstance(value, list) and bool(value) and all(map(_is_integer, value)))


def _json_entry(key: str, value: Any, colours: Mapping[str, Any], path: Path) -> LabelEntry:
    if _is_integer_text(key):
        name = value if isinstance(value, str) else value["name"]
        colour = None if isinstance(value, str) else value.get("colour", value.get("color"))
        found, by_name = (int(key),), False
    else:
        name, colour, by_name = key, None, True
        found = tuple(value) if isinstance(value, list) else (value,)
    given = next((colours[text] for text in (name, key) if text in colours), colour)
    return make_entry(name, found, _colour(given, path, name), by_name=by_name, where=str(path))


def _colour(given: Any, path: Path, name: str) -> str | None:
    """Return the colour ``#rrggbb`` of a text or of three numbers."""
    if given in (None, "", "n/a"):
        return None
    if isinstance(given, list) and len(given) == 3 and all(_is_integer(n) and 0 <= n <= 255 for n in given):
        return "#{:02x}{:02x}{:02x}".format(*given)
    try:
        if not isinstance(given, str):
            raise InputError(f"{given!r} is not a colour; write it as #rrggbb, such as #ff8800")
        return parse_colour(given)
    except InputError as error:
        raise InputError(f"{path}: the colour of {name}: {error}") from error


def _read_table(path: Path) -> list[LabelEntry]:
    table = read_table(path)
    keys = {re.sub(r"[ _]", "", column.lower()): column for column in table.columns}
    value, name = (next((keys[key] for key in known if key in keys), None) for known in (_VALUES, _NAMES))
    if value is None or name is None or value == name:
        raise NoLabelFileError(
            f"{path} has the columns {', '.join(table.columns) or 'none'}, but labels need value and name (and colour)"
        )
    if table.rows and not any(_NUMBER.match(row[value].strip()) for _, row in table.rows):
        raise NoLabelFileError(
            f"{path} has no number in its column {value}; the first is {table.rows[0][1][value]!r:.60}"
        )
    entries = list(_table_entries(path, table, keys, value, name))
    if any(entry.by_name for entry in entries):
        # As in nnU-Net's dataset.json, if one row is a region, all rows are.
        entries = [replace(entry, by_name=True) for entry in entries]
    return entries


def _table_entries(path: Path, table: Table, keys: Mapping[str, str], value: str, name: str) -> Iterator[LabelEntry]:
    hexadecimal = next((keys[key] for key in _COLOURS if key in keys), None)
    channels = next((group for group in _CHANNELS if all(key in keys for key in group)), None)
    for line, row in table.rows:
        where = f"{path}, line {line}"
        values = re.split(r"[,;+ ]+", row[value].strip())
        if not all(map(_is_integer_text, values)):
            raise InputError(f"{where}: the value is {row[value]!r}; give a whole number, or several for a region")
        colour: Any = row[hexadecimal] if hexadecimal else None
        if channels is not None and all(row[keys[key]] for key in channels):
            colour = _channels([row[keys[key]] for key in channels], where)
        text = unguard_cell(row[name])
        found = tuple(map(int, values))
        yield make_entry(text, found, _colour(colour, Path(where), text), by_name=len(found) > 1, where=where)


def _channels(texts: Sequence[str], where: str) -> list[int]:
    """Return colour components as 0 to 255, from 0 to 255, or from 0 to 1 if one has a decimal point."""
    numbers = []
    for text in texts:
        try:
            numbers.append(float(text))
        except ValueError:
            numbers.append(-1.0)
        if not 0 <= numbers[-1] <= 255:
            raise InputError(f"{where}: {text!r} is not a colour component; give 0 to 255")
    fractions = any("." in text for text in texts) and max(numbers) <= 1
    return [round(255 * number if fractions else number) for number in numbers]


def _read_lines(path: Path) -> list[LabelEntry]:
    entries = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"{path}, line {number}"
        snap, table = _ITK_SNAP.fullmatch(text), _COLOUR_TABLE.fullmatch(text)
        if snap:
            value, *colour, name = snap.groups()
        elif table:
            value, name, *colour = table.groups()
        elif "=" in text:
            try:
                entries.append(parse_label(text))
            except InputError as error:
                raise InputError(f"{where}: {error}") from error
            continue
        else:
            raise NoLabelFileError(
                f"{where}: {text[:60]!r} is not a label; write 1=organ, or a line in ITK-SNAP's format"
            )
        # Label 0 of these formats is the background, whatever its name.
        name = name if int(value) else BACKGROUND
        numbers = [int(part) for part in colour]
        entries.append(make_entry(name, (int(value),), _colour(numbers, Path(where), name), where=where))
    return entries


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_integer_text(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9]{1,18}", text) is not None


_READERS: dict[str, Callable[[Path], list[LabelEntry]]] = {
    ".json": _read_json,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".txt": _read_lines,
    ".ctbl": _read_lines,
    ".label": _read_lines,
}
