"""The table of the doubt of cases, and the line about doubtful cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deconvseg.data import list_names, write_table
from deconvseg.inference.records import Prediction, Records
from deconvseg.text import number_of

DOUBT = "doubt.csv"


def write_doubts(folder: Path) -> None:
    """Write ``doubt.csv``: a row for each mask in the folder with a recorded doubt, the most doubtful first.

    Nothing is written if there is no such mask.
    """
    found = [
        (record.doubt.score, record.mask, record.doubt)
        for record in Records(folder).all()
        if record.doubt is not None and (folder / record.mask).is_file()
    ]
    rows: list[dict[str, Any]] = [
        {"mask": mask, **doubt.to_json()} for _, mask, doubt in sorted(found, key=lambda row: (-row[0], row[1]))
    ]
    if rows:
        write_table(folder / DOUBT, rows)


def describe_doubts(result: Prediction, limit: float | None) -> str | None:
    """Return a line about the doubtful cases, the most doubtful first; None if there are none."""
    doubtful = sorted(
        (name for name, found in result.doubts.items() if found.doubtful), key=lambda name: -result.doubts[name].score
    )
    if not doubtful or limit is None:
        return None
    verb = "is" if len(doubtful) == 1 else "are"
    return (
        f"{len(doubtful)} of {number_of(len(result.doubts), 'mask')} {verb} doubtful (above {limit:.3f}, the 95th "
        f"percentile of the validation cases), the most doubtful first: {list_names(doubtful)}; {DOUBT} lists all"
    )
