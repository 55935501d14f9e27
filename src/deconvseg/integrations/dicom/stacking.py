"""The slices of a series in their order, on one regular grid, or the reason why they are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvseg.data import Geometry, list_names
from deconvseg.data.formats.worlds import other_world
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.series import Series
from deconvseg.integrations.dicom.slices import (
    Slice,
    check_distance,
    check_orientations,
    check_regular,
    check_repeated,
    check_tilt,
    position,
)
from deconvseg.text import number_of

# Of the distance between pixels: what headers of one series may differ by.
_SAME_SPACING = 1e-4


@dataclass(frozen=True)
class Stack:
    """The slices of a volume along the normal, and their grid; or a picture: one slice without a place, in 2D."""

    slices: tuple[Slice, ...]
    geometry: Geometry
    notes: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether it is a 2D picture."""
        return self.geometry.spatial_dims == 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape: (columns, rows, slices) of a volume, (rows, columns) of a picture."""
        first = self.slices[0].instance
        if self.is_picture:
            return first.rows, first.columns
        return first.columns, first.rows, len(self.slices)

    @property
    def channels(self) -> int:
        """The channels: three of a picture in colour, else one."""
        first = self.slices[0].instance
        return 3 if first.samples == 3 or first.photometric == "PALETTE COLOR" else 1


def stack(series: Series) -> Stack:
    """Return the slices of a series in their order, with the grid of their voxels (nibabel's convention, RAS).

    The first axis goes along the rows of a slice, the second along its columns, the third from slice to slice along the
    normal. Raises :class:`~deconvseg.errors.InputError` for a series that is no single volume on a regular grid:
    missing or repeated slices, irregular distances, a tilted gantry, several orientations, sizes or frames of
    reference, localisers, and frames without a place.

    Example:
        >>> from deconvseg.integrations.dicom import find_series, stack
        >>> stack(find_series("STUDY").series[0]).shape
        (24, 20, 12)

    """
    slices = [
        Slice(instance, index, frame) for instance in series.instances for index, frame in enumerate(instance.frames)
    ]
    try:
        return _stack(slices)
    except InputError as error:
        raise InputError(f"{series.source}: {series} {error}") from error


def _stack(slices: Sequence[Slice]) -> Stack:
    if any(each.instance.is_localiser for each in slices):
        raise InputError("is a localiser, and no volume; choose another series")
    if any("MOSAIC" in each.instance.image_type for each in slices):
        raise InputError(
            "is a mosaic of Siemens, whose pictures hold all slices side by side; convert it with dcm2niix and give "
            "the .nii.gz file"
        )
    placed = [each for each in slices if each.frame.position is not None and each.frame.normal is not None]
    if not placed and len(slices) == 1:
        return Stack(tuple(slices), Geometry.identity(2))
    if len(placed) < len(slices):
        raise InputError(
            f"has {number_of(len(slices) - len(placed), 'frame')} of {len(slices)} without a position and orientation, "
            f"as {_first(slices, set(placed))}; a cine loop or a set of pictures is no volume: give single pictures"
        )
    if any(each.instance.samples != 1 or each.instance.photometric == "PALETTE COLOR" for each in slices):
        raise InputError("has slices in colour, where one number per voxel is expected; choose the original series")
    _check_alike(slices)
    return _on_a_grid(slices)


def _check_alike(slices: Sequence[Slice]) -> None:
    """Refuse slices that cannot be planes of one volume."""
    for what, advice, key in _PROPERTIES:
        counts = Counter(key(each) for each in slices)
        if key is _spacing and _is_one_spacing(slices):
            continue
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            found = list_names((f"{value} ({number_of(count, 'slice')})" for value, count in counts.most_common()), 4)
            odd = next(each.name for each in slices if key(each) != usual)
            raise InputError(f"has several {what}: {found}, as in {odd}; {advice}")
    first = slices[0].frame
    assert first.rows is not None
    assert first.columns is not None
    lengths = np.linalg.norm(first.rows), np.linalg.norm(first.columns)
    if not np.allclose(lengths, 1, atol=0.01) or abs(first.rows @ first.columns) > 0.01:
        raise InputError("has an ImageOrientationPatient that is no pair of perpendicular directions; repair it")
    if first.spacing is None or not all(0 < length < np.inf for length in first.spacing):
        raise InputError("gives no distance between its pixels (PixelSpacing); repair its headers")


def _size(each: Slice) -> str:
    return f"{each.instance.columns} x {each.instance.rows} pixels"


def _spacing(each: Slice) -> str:
    spacing = each.frame.spacing
    return "none" if spacing is None else f"{spacing[0]:.4g} x {spacing[1]:.4g} mm"


def _is_one_spacing(slices: Sequence[Slice]) -> bool:
    """Return whether the distances between pixels differ by no more than rounding."""
    found = [each.frame.spacing for each in slices if each.frame.spacing is not None]
    return len(found) == len(slices) and bool(np.ptp(found, axis=0).max() <= _SAME_SPACING * np.min(found))


def _reference(each: Slice) -> str:
    return each.instance.frame_of_reference or "none"


_PROPERTIES: tuple[tuple[str, str, Callable[[Slice], str]], ...] = (
    ("sizes", "give a folder with one of them", _size),
    ("frames of reference", "its slices have no common place: give a folder with one of them", _reference),
    ("distances between pixels", "give a folder with one of them", _spacing),
)


def _on_a_grid(slices: Sequence[Slice]) -> Stack:
    first = slices[0].frame
    normal, rows, columns = first.normal, first.rows, first.columns
    assert normal is not None
    assert rows is not None
    assert columns is not None
    assert first.spacing is not None
    check_orientations(slices)
    normal = normal / np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda each: (float(normal @ position(each)), each.name))
    along = np.array([float(normal @ position(each)) for each in ordered])
    between_rows, between_columns = first.spacing
    check_repeated(ordered, along)
    notes: tuple[str, ...] = ()
    start = position(ordered[0])
    if len(ordered) > 1:
        step = (position(ordered[-1]) - start) / (len(ordered) - 1)
        check_tilt(ordered, rows, columns, normal, min(first.spacing))
        check_regular(ordered, along)
        notes = check_distance(ordered, float(np.linalg.norm(step)))
    else:
        thickness = first.between or first.thickness or 0.0
        notes = () if thickness > 0 else ("is one slice without a thickness: 1 mm is assumed",)
        step = normal * (thickness or 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([rows * between_columns, columns * between_rows, step, start])
    return Stack(tuple(ordered), Geometry(other_world(affine)), notes)


def _first(slices: Iterable[Slice], placed: set[Any]) -> str:
    return next(each.name for each in slices if each not in placed)
