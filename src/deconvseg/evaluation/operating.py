"""Operating points: sensitivity, precision and Dice of structures as functions of the probability threshold.

They are measured on cases that the network was not trained on: the validation cases of a run, or all cases of a
cross-validation, each with the fold that held it out. The file is ``operating_points.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, computed_field, model_validator

from deconvseg.data import read_json_object
from deconvseg.errors import InputError, suggest
from deconvseg.runs import GRID
from deconvseg.system import write_text

OPERATING_POINTS = "operating_points.json"
# Indices of the thresholds in GRID at which lesions are counted: 0.05, 0.1, ..., 0.95.
LESION_PLACES = tuple(range(4, len(GRID), 5))
# With fewer cases no limit of unusual doubt is estimated.
LEAST_CASES = 10
_PERCENTILE = 95
# The columns that are means over cases; the others are sums.
MEANS = ("dice", "mean_sensitivity", "mean_precision")
COUNTS = ("predicted", "common", "found", "missed", "false")

Numbers = tuple[float, ...]
Counts = tuple[int, ...]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Points(_Part):
    """One structure at several thresholds.

    ``dice``, ``mean_sensitivity`` and ``mean_precision`` are means over cases, as in ``evaluate`` (1 for two empty
    masks, 0 for a missed or spurious structure). ``truth``, ``predicted`` and ``common`` are numbers of voxels summed
    over all cases, from which ``sensitivity``, ``precision`` and ``pooled_dice`` are computed. ``found``, ``missed``
    and ``false`` are numbers of lesions.
    """

    dice: Numbers
    mean_sensitivity: Numbers
    mean_precision: Numbers
    truth: int
    predicted: Counts
    common: Counts
    found: Counts
    missed: Counts
    false: Counts

    @model_validator(mode="after")
    def _check(self) -> Points:
        voxelwise = {len(each) for each in (self.dice, self.mean_sensitivity, self.mean_precision, self.predicted)}
        if voxelwise != {len(self.common)} or not len(self.found) == len(self.missed) == len(self.false):
            raise ValueError("its columns differ in length")
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sensitivity(self) -> tuple[float | None, ...]:
        """The share of all true voxels that is predicted; None without true voxels."""
        return tuple(_share(common, self.truth) for common in self.common)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def precision(self) -> tuple[float | None, ...]:
        """The share of all predicted voxels that is true; None without predicted voxels."""
        return tuple(_share(common, total) for common, total in zip(self.common, self.predicted, strict=True))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pooled_dice(self) -> tuple[float | None, ...]:
        """The Dice of the voxels of all cases together."""
        return tuple(_share(2 * c, self.truth + p) for c, p in zip(self.common, self.predicted, strict=True))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def lesion_sensitivity(self) -> tuple[float | None, ...]:
        """The share of true lesions that are found."""
        return tuple(_share(found, found + missed) for found, missed in zip(self.found, self.missed, strict=True))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def lesion_precision(self) -> tuple[float | None, ...]:
        """The number of found lesions over that of found and false lesions."""
        return tuple(_share(found, found + false) for found, false in zip(self.found, self.false, strict=True))


class StructurePoints(_Part):
    """The points of a structure for its own threshold (other structures by default), and ``default`` without one.

    ``at_half`` is true if the default is the threshold 0.5, as for regions and a single class.
    """

    name: str
    cases_with_truth: int
    at_half: bool
    default: Points
    curve: Points

    @property
    def many_lesions(self) -> bool:
        """Whether any true mask has more than one lesion."""
        return sum(column[0] for column in (self.default.found, self.default.missed)) > self.cases_with_truth


class OperatingPoints(_Part):
    """The operating points of a run's validation cases, or of the out-of-fold predictions of a cross-validation.

    ``doubts`` are the doubt scores of the cases by name; ``left_out`` has the cases that are not in the curves, and
    why.
    """

    version: Literal[1] = 1
    source: Literal["validation", "out-of-fold"] = "validation"
    cases: int
    thresholds: Numbers = GRID
    lesion_thresholds: Numbers = tuple(GRID[place] for place in LESION_PLACES)
    structures: tuple[StructurePoints, ...]
    doubts: dict[str, float] = {}
    left_out: tuple[str, ...] = ()

    @property
    def doubt_limit(self) -> float | None:
        """The 95th percentile of the cases' doubt; None for fewer than 10 cases."""
        return float(np.percentile([*self.doubts.values()], _PERCENTILE)) if len(self.doubts) >= LEAST_CASES else None

    def write(self, folder: Path) -> None:
        """Write ``operating_points.json`` into the folder of a run or a cross-validation."""
        write_text(folder / OPERATING_POINTS, self.model_dump_json() + "\n")

    def structure(self, name: str) -> StructurePoints:
        """Return the structure with this name; :class:`InputError` if there is none."""
        for found in self.structures:
            if found.name == name:
                return found
        names = [found.name for found in self.structures]
        raise InputError(f"there is no class {name!r}; {suggest(name, names)}the classes are {', '.join(names)}")


def read_operating_points(folder: str | PathLike[str]) -> OperatingPoints | None:
    """Read a folder's ``operating_points.json``; None if it does not exist, as in runs of earlier versions.

    Raises :class:`InputError`, which names a wrong key, for a damaged file.

    Example:
        >>> from deconvseg.evaluation import read_operating_points
        >>> points = read_operating_points("RUN")
        >>> points.cases, points.structures[0].name, len(points.structures[0].curve.dice)
        (2, 'disc', 99)

    """
    path = Path(folder) / OPERATING_POINTS
    if not path.is_file():
        return None
    read_json_object(path)
    try:
        found = OperatingPoints.model_validate_json(path.read_bytes())
        for structure in found.structures:
            sizes = len(structure.curve.dice), len(structure.curve.found)
            if sizes != (len(found.thresholds), len(found.lesion_thresholds)) or len(structure.default.dice) != 1:
                raise ValueError(f"{structure.name}: its columns are not as long as the thresholds")
    except (ValidationError, ValueError) as error:
        raise InputError(f"{path}: {_first_line(error)}; the file is damaged: copy the run again") from error
    return found


def merge_operating_points(parts: Sequence[OperatingPoints]) -> OperatingPoints:
    """Merge the operating points of the folds of a cross-validation, which have the same structures.

    Example:
        >>> from deconvseg.evaluation import merge_operating_points, read_operating_points
        >>> points = read_operating_points("RUN")
        >>> merge_operating_points([points, points]).cases
        4

    """
    cases = [part.cases for part in parts]
    columns = zip(*(part.structures for part in parts), strict=True)
    return OperatingPoints(
        source="out-of-fold",
        cases=sum(cases),
        structures=tuple(
            StructurePoints(
                name=group[0].name,
                cases_with_truth=sum(each.cases_with_truth for each in group),
                at_half=group[0].at_half,
                default=_merge([each.default for each in group], cases),
                curve=_merge([each.curve for each in group], cases),
            )
            for group in columns
        ),
        doubts={name: score for part in parts for name, score in part.doubts.items()},
        left_out=tuple(text for part in parts for text in part.left_out),
    )


def _merge(parts: Sequence[Points], cases: Sequence[int]) -> Points:
    weights = np.array(cases) / sum(cases)
    means = {key: tuple((weights @ np.array([getattr(p, key) for p in parts])).tolist()) for key in MEANS}
    counts = {key: tuple(np.array([getattr(p, key) for p in parts]).sum(axis=0).tolist()) for key in COUNTS}
    return Points(**means, **counts, truth=sum(part.truth for part in parts))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _first_line(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
    return str(error)
