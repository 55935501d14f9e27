"""The code of a structure by its name: of the plan, of a file, or of the package's table of organs and lesions."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from os import PathLike
from pathlib import Path

from pydantic import ValidationError

from deconvseg.errors import InputError, suggest
from deconvseg.integrations.dicom.segmentation import CodedSegment
from deconvseg.planning import Plan, SegmentCode

# The code of a structure that no table names: certainly not wrong, and viewers show it by its name.
UNKNOWN = SegmentCode(category=("SCT", "85756007", "Tissue"), type=("SCT", "85756007", "Tissue"))
_SIDES = {"left": ("SCT", "7771000", "Left"), "right": ("SCT", "24028007", "Right")}
_KEYS = ("category", "type", "modifier", "region", "region_modifier")
_COLUMNS = ("name", *_KEYS)


def find_code(name: str) -> SegmentCode | None:
    """Return the code of a common organ or lesion by its name, None for another structure.

    Case, ``_`` and ``-`` do not matter, and "left" or "right" anywhere in the name becomes the modifier of the type, or
    of the region of a lesion.

    Example:
        >>> from deconvseg.integrations.dicom import find_code
        >>> find_code("kidney_left").meaning, find_code("Liver tumour").region
        ('Left Kidney', ('SCT', '10200004', 'Liver'))
        >>> find_code("class 1") is None
        True

    """
    return _find(name, _built_in())


def read_codes(path: str | PathLike[str]) -> dict[str, SegmentCode]:
    """Read a table of codes by the names of structures (CSV in UTF-8).

    Its columns are ``name`` (several are separated by ``|``), ``category``, ``type``, and where they are needed
    ``modifier``, ``region`` and ``region_modifier``; a cell is ``SCHEME^VALUE^MEANING``, such as
    ``SCT^10200004^Liver``. Raises :class:`~deconvseg.errors.InputError` with the line of the first mistake.

    Example:
        >>> from deconvseg.integrations.dicom import read_codes
        >>> rows = "name,category,type\\ndisc,SCT^123037004^Anatomical Structure,SCT^24422004^Optic disc"
        >>> _ = open("codes.csv", "w").write(rows)
        >>> read_codes("codes.csv")["disc"].meaning
        'Optic disc'

    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a table of codes in UTF-8") from error
    return _parse(text, str(path))


def code_segments(plan: Plan, codes: Mapping[str, SegmentCode] | None = None) -> tuple[list[CodedSegment], list[str]]:
    """Return the structures that a plan predicts as segments, and the names of those without a code.

    The code of a structure is that of ``codes``, of the plan, or of :func:`find_code`, the first that has one.
    """
    given = {_plain(name): code for name, code in (codes or {}).items()}
    known = {_plain(structure.name): structure.name for structure in plan.structures}
    for name in codes or {}:
        if _plain(name) not in known and not any(_find(other, {_plain(name): UNKNOWN}) for other in known):
            names = list(known.values())
            raise InputError(
                f"`codes`: {name!r} is no structure of the run: {suggest(name, names)}it has {', '.join(names)}"
            )
    planned = {_plain(name): code for name, code in plan.codes.items()}
    segments, unknown = [], []
    for structure in plan.structures:
        code = next((found for table in (given, planned, _built_in()) if (found := _find(structure.name, table))), None)
        if code is None:
            unknown.append(structure.name)
        colour = plan.class_colours[structure.name]
        segments.append(CodedSegment(structure.written_as, structure.name, colour, code or UNKNOWN))
    return segments, unknown


def _find(name: str, table: Mapping[str, SegmentCode]) -> SegmentCode | None:
    """Return the code of a name, or that of the name without its side, with the side."""
    plain = _plain(name)
    if plain in table:
        return table[plain]
    words = plain.split()
    sides = [word for word in words if word in _SIDES]
    code = table.get(" ".join(word for word in words if word not in _SIDES))
    if code is None or len(sides) != 1:
        return None
    key = "modifier" if code.region is None else "region_modifier"
    return code.model_copy(update={key: _SIDES[sides[0]]})


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split())


@cache
def _built_in() -> Mapping[str, SegmentCode]:
    file = files("deconvseg.catalog") / "segment_codes.csv"
    return {_plain(name): code for name, code in _parse(file.read_text("utf-8"), file.name).items()}


def _parse(text: str, where: str) -> dict[str, SegmentCode]:
    rows = csv.DictReader(io.StringIO(text), strict=True)
    columns: Sequence[str] = rows.fieldnames or ()
    if unknown := [column for column in columns if column not in _COLUMNS]:
        raise InputError(f"{where}: has the column {unknown[0]!r}; the columns are {', '.join(_COLUMNS)}")
    if missing := [column for column in _COLUMNS[:3] if column not in columns]:
        raise InputError(f"{where}: has no column {missing[0]!r}; the columns are {', '.join(_COLUMNS)}")
    codes: dict[str, SegmentCode] = {}
    try:
        for row in rows:
            terms = {key: tuple(row[key].split("^")) for key in _KEYS if row.get(key)}
            code = SegmentCode.model_validate(terms)
            names = [name for name in (row["name"] or "").split("|") if _plain(name)]
            if not names:
                raise InputError(f"{where}: line {rows.line_num}: has no name")
            codes.update(dict.fromkeys(map(str.strip, names), code))
    except csv.Error as error:
        raise InputError(f"{where}: line {rows.line_num}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{where}: line {rows.line_num}: {f'{place}: ' if place else ''}{first['msg']}; a cell is "
            "SCHEME^VALUE^MEANING, such as SCT^10200004^Liver"
        ) from error
    return codes
