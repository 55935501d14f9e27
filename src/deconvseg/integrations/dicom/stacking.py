"""The slices of a series in their order, on one regular grid, or the reason why they are not."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deconvseg.data import Geometry, list_names
from deconvseg.data.formats.worlds import other_world
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.instances import Frame, Instance, Vector
from deconvseg.integrations.dicom.series import Series
from deconvseg.text import number_of

# Headers round directions to six digits, and scanners repeat them slightly changed.
_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-3
# Of the distance between slices: what rounded positions may be off their regular places, and equal ones apart.
_OFF_PLACE, _SAME_PLACE = 0.1, 0.02
# Of the thickness of a slice: the distance at which two slices may have had another between them.
_FAR = 1.75
# Of the width of a pixel: what the last slice may be shifted sideways against the first.
_SIDEWAYS = 0.25


@dataclass(frozen=True)
class Slice:
    """A plane of a volume: its file, the number of its frame in there, counted from 0, and its header."""

    instance: Instance
    index: int
    frame: Frame

    @property
    def name(self) -> str:
        """The name of the file, with the number of the frame if it has several."""
        several = len(self.instance.frames) > 1
        return f"{self.instance.path.name}{f' frame {self.index + 1}' if several else ''}"


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
    _check_orientations(slices)
    normal = normal / np.linalg.norm(normal)
    ordered = sorted(slices, key=lambda each: (float(normal @ _position(each)), each.name))
    along = np.array([float(normal @ _position(each)) for each in ordered])
    between_rows, between_columns = first.spacing
    _check_repeated(ordered, along)
    notes: tuple[str, ...] = ()
    start = _position(ordered[0])
    if len(ordered) > 1:
        step = (_position(ordered[-1]) - start) / (len(ordered) - 1)
        _check_tilt(ordered, rows, columns, normal, min(first.spacing))
        _check_regular(ordered, along)
        _check_two(ordered, along)
    else:
        thickness = first.thickness or 0.0
        notes = () if thickness > 0 else ("is one slice without a thickness: 1 mm is assumed",)
        step = normal * (thickness or 1.0)
    affine = np.eye(4)
    affine[:3] = np.column_stack([rows * between_columns, columns * between_rows, step, start])
    return Stack(tuple(ordered), Geometry(other_world(affine)), notes)


def _check_two(ordered: Sequence[Slice], along: Vector) -> None:
    """Refuse two slices whose thickness does not say that they are neighbours: no third one shows their distance."""
    thickness = ordered[0].frame.thickness or 0.0
    if len(ordered) == 2 and along[1] - along[0] > _FAR * thickness:
        said = f"with a thickness of {thickness:.4g} mm" if thickness else "without a thickness"
        apart = f"has 2 slices {along[1] - along[0]:.4g} mm apart, {said}"
        raise InputError(f"{apart}, so that nothing tells whether slices are missing; copy the series again, whole")


def _check_orientations(slices: Sequence[Slice]) -> None:
    groups: list[tuple[Vector, list[Slice]]] = []
    for each in slices:
        directions = np.concatenate([_known(each.frame.rows), _known(each.frame.columns)])
        same = (members for known, members in groups if np.abs(known - directions).max() <= _SAME_DIRECTION)
        members = next(same, None)
        if members is None:
            groups.append((directions, [each]))
        else:
            members.append(each)
    if len(groups) > 1:
        found = list_names((f"{number_of(len(members), 'slice')} as {members[0].name}" for _, members in groups), 4)
        raise InputError(
            f"has slices in {len(groups)} orientations ({found}), as localisers and radial scans have; give a folder "
            "with one of them"
        )


def _check_repeated(ordered: Sequence[Slice], along: Vector) -> None:
    """Refuse several slices at one place."""
    gaps = np.diff(along)
    different = gaps[gaps > 1e-3]
    usual = float(np.median(different)) if len(different) else 1.0
    places: dict[int, list[Slice]] = defaultdict(list)
    place = 0
    for number, each in enumerate(ordered):
        place += int(number > 0 and gaps[number - 1] > max(_SAME_PLACE * usual, 1e-3))
        places[place].append(each)
    repeated = [members for members in places.values() if len(members) > 1]
    if not repeated:
        return
    shown = list_names((" and ".join(each.name for each in members[:2]) for members in repeated), 3)
    most = max(map(len, repeated))
    raise InputError(
        f"has several slices at {len(repeated)} of {number_of(len(places), 'place')}, up to {most} ({shown})"
        f"{_difference(repeated)}; give a folder with one slice at each place"
    )


def _difference(repeated: Sequence[Sequence[Slice]]) -> str:
    """Say by which attributes the slices at one place differ."""
    if all(len({each.instance.uid for each in members}) == 1 < len(members) for members in repeated) and all(
        len({each.index for each in members}) == 1 for members in repeated
    ):
        return ", which are different files of the same images"
    names = dict.fromkeys(name for members in repeated for each in members for name in each.frame.marks)
    found = []
    for name in names:
        values = sorted({each.frame.marks.get(name, "none") for each in repeated[0]})
        if len(values) > 1:
            found.append(f"{name} ({list_names(values, 4)})")
    return f", which differ in {list_names(found, 3)}: it holds several volumes" if found else ""


def _check_tilt(ordered: Sequence[Slice], rows: Vector, columns: Vector, normal: Vector, pixel: float) -> None:
    """Refuse slices that are shifted sideways against each other: those of a CT with a tilted gantry."""
    across = _position(ordered[-1]) - _position(ordered[0])
    sideways = np.array([across @ rows, across @ columns])
    shift = float(np.linalg.norm(sideways))
    if shift > _SIDEWAYS * pixel:
        angle = np.degrees(np.arctan2(shift, abs(float(across @ normal))))
        raise InputError(
            f"is sheared: from its first to its last slice ({ordered[0].name}, {ordered[-1].name}) the slices shift "
            f"by {shift:.4g} mm sideways, {angle:.3g}° (a tilted gantry); correct the tilt, as dcm2niix does, and give "
            "the .nii.gz file"
        )


def _check_regular(ordered: Sequence[Slice], along: Vector) -> None:
    """Refuse missing slices and irregular distances."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    off = along - (along[0] + np.arange(len(along)) * (along[-1] - along[0]) / (len(along) - 1))
    if np.abs(off).max() <= _OFF_PLACE * usual:
        return
    counts = np.rint(gaps / usual)
    whole = np.abs(gaps / usual - counts) <= _OFF_PLACE
    if whole.all() and (counts >= 1).all() and (counts > 1).any():
        missing = [
            f"{number_of(int(count) - 1, 'slice')} between {ordered[place].name} ({along[place]:.4g} mm) and "
            f"{ordered[place + 1].name} ({along[place + 1]:.4g} mm)"
            for place, count in enumerate(counts)
            if count > 1
        ]
        raise InputError(
            f"lacks {list_names(missing, 3)}, where the others are {usual:.4g} mm apart; copy the series again, whole"
        )
    place = int(np.abs(gaps - usual).argmax())
    raise InputError(
        f"has slices from {gaps.min():.4g} to {gaps.max():.4g} mm apart ({gaps[place]:.4g} mm between "
        f"{ordered[place].name} and {ordered[place + 1].name}, usually {usual:.4g} mm); give a series with one distance"
    )


def _position(each: Slice) -> Vector:
    return _known(each.frame.position)


def _known(vector: Vector | None) -> Vector:
    assert vector is not None
    return vector


def _first(slices: Iterable[Slice], placed: set[Any]) -> str:
    return next(each.name for each in slices if each not in placed)
