"""Text of the list of DICOM series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deconvseg.text import number_of

if TYPE_CHECKING:
    from deconvseg.integrations.dicom import ListedSeries, SeriesList


def describe_series(found: SeriesList) -> str:
    """Return a list of series as lines of text, by study, with the reasons why files were skipped."""
    return "\n".join(_lines(found))


def _lines(found: SeriesList) -> Iterator[str]:
    studies: dict[str, list[ListedSeries]] = defaultdict(list)
    for listed in found.series:
        studies[listed.series.study_uid].append(listed)
    for uid, members in studies.items():
        yield f"study {uid or 'without a UID'}"
        for listed in members:
            series = listed.series
            number = "" if series.number is None else str(series.number)
            name = f"{series.modality:4} {series.description}".rstrip()
            yield f"  {number:>4}  {name}, {number_of(len(series.files), 'file')}, {_grid(listed)}"
            yield f"        {series.uid}"
    if not studies:
        yield "no series of images"
    reasons: dict[str, list[str]] = defaultdict(list)
    for skipped in found.skipped:
        reasons[skipped.reason].append(skipped.path.name)
    for reason, names in reasons.items():
        shown = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
        yield f"skipped {number_of(len(names), 'file')}: {reason} ({shown})"


def _grid(listed: ListedSeries) -> str:
    if listed.shape is None:
        return f"not read: {listed.problem}"
    shape = " x ".join(map(str, listed.shape))
    if listed.spacing is None:
        return f"a picture of {shape} pixels"
    return f"{shape} voxels of ({', '.join(f'{size:.4g}' for size in listed.spacing)}) mm"
