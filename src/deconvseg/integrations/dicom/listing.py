"""What the series of a folder are, and which of them can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

from deconvseg.errors import InputError
from deconvseg.integrations.dicom.choosing import check_together, picks
from deconvseg.integrations.dicom.series import Series, Skipped, find_series
from deconvseg.integrations.dicom.stacking import stack


@dataclass(frozen=True)
class ListedSeries:
    """A series with the shape and spacing (mm) of its grid; or the ``problem`` why it is no image, and no shape."""

    series: Series
    shape: tuple[int, ...] | None
    spacing: tuple[float, ...] | None
    problem: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the series as a plain dictionary."""
        own = {name: value for name, value in vars(self.series).items() if name != "files"}
        return {**own, "files": len(self.series.files), "folder": str(self.series.folder), **self._found()}

    def _found(self) -> dict[str, Any]:
        return {"shape": self.shape, "spacing": self.spacing, "problem": self.problem}


@dataclass(frozen=True)
class SeriesList:
    """The series of a folder, and the files that belong to none."""

    series: tuple[ListedSeries, ...]
    skipped: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the list as plain dictionaries."""
        skipped = [{"file": str(each.path), "reason": each.reason} for each in self.skipped]
        return {"series": [each.to_json() for each in self.series], "skipped": skipped}


def list_folder(folder: str | PathLike[str], series: Sequence[str] | str = ()) -> SeriesList:
    """Return the series of a folder of one or many studies with their grids, or why they cannot be read.

    ``series`` are UIDs, descriptions or modalities of those to list, also as patterns; without them all are listed.
    Pixels are not read. Raises :class:`~deconvseg.errors.InputError` for a folder that does not exist.

    Example:
        >>> from deconvseg.integrations.dicom import list_folder
        >>> [(each.series.description, each.shape) for each in list_folder("STUDY", "FLAIR").series]
        [('FLAIR', (24, 20, 12))]

    """
    wanted = [series] if isinstance(series, str) else list(series)
    found = find_series(folder)
    chosen: Iterable[Series] = (each for each in found.series if not wanted or picks(wanted, each))
    return SeriesList(tuple(map(_listed, chosen)), found.skipped)


def _listed(series: Series) -> ListedSeries:
    try:
        check_together(series)
        grid = stack(series)
    except InputError as error:
        text = str(error).removeprefix(f"{series.source}: ").removeprefix(f"{series} ")
        return ListedSeries(series, None, None, text)
    spacing = None if grid.is_picture else grid.geometry.spacing
    return ListedSeries(series, grid.shape, spacing, None)
