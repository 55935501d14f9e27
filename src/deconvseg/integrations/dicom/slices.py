"""Slices of a series, and the checks that they lie on one regular grid."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvseg.data import list_names
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.instances import Frame, Instance, Vector
from deconvseg.text import number_of

# Headers round directions to six digits, and scanners repeat them slightly changed.
_SAME_DIRECTION = 1e-3
# Of the distance between slices: what rounded positions may be off their regular places, and equal ones apart.
_OFF_PLACE, _SAME_PLACE = 0.1, 0.02
# Of the thickness of a slice: the distance at which slices may have had others between them.
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


def check_orientations(slices: Sequence[Slice]) -> None:
    """Refuse planes of several orientations."""
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


def check_repeated(ordered: Sequence[Slice], along: Vector) -> None:
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


def check_distance(ordered: Sequence[Slice], step: float) -> tuple[str, ...]:
    """Refuse slices farther apart than their headers say, because others may be missing; return what to look at."""
    frame = ordered[0].frame
    thickness, between = frame.thickness or 0.0, frame.between or 0.0
    if between and step > _FAR * max(thickness, between) and abs(step / between - round(step / between)) <= _OFF_PLACE:
        raise InputError(
            f"has slices {step:.4g} mm apart, where their headers say {between:.4g} mm (SpacingBetweenSlices): "
            f"{number_of(round(step / between) - 1, 'slice')} may be missing after each; copy the series again, whole"
        )
    if step <= _FAR * max(thickness, between):
        return ()
    said = f"with a thickness of {thickness:.4g} mm" if thickness else "without a thickness"
    apart = f"has {len(ordered)} slices {step:.4g} mm apart, {said}"
    # Of three slices or more, gaps wider than the thickness are not rare.
    if len(ordered) == 2:
        raise InputError(f"{apart}, so that nothing tells whether slices are missing; copy the series again, whole")
    return (f"{apart}: if it was not taken so, slices are missing",) if thickness else ()


def check_tilt(ordered: Sequence[Slice], rows: Vector, columns: Vector, normal: Vector, pixel: float) -> None:
    """Refuse slices that are shifted sideways against each other: those of a CT with a tilted gantry."""
    across = position(ordered[-1]) - position(ordered[0])
    sideways = np.array([across @ rows, across @ columns])
    shift = float(np.linalg.norm(sideways))
    if shift > _SIDEWAYS * pixel:
        angle = np.degrees(np.arctan2(shift, abs(float(across @ normal))))
        raise InputError(
            f"is sheared: from its first to its last slice ({ordered[0].name}, {ordered[-1].name}) the slices shift "
            f"by {shift:.4g} mm sideways, {angle:.3g}° (a tilted gantry); correct the tilt, as dcm2niix does, and give "
            "the .nii.gz file"
        )
    start, length = position(ordered[0]), float(across @ normal)
    for each in ordered:
        beside = position(each) - start
        beside = beside - across * (float(beside @ normal) / length)
        shift = float(np.hypot(beside @ rows, beside @ columns))
        if shift > _SIDEWAYS * pixel:
            raise InputError(
                f"has {each.name} {shift:.4g} mm beside the line of the other slices; repair its ImagePositionPatient, "
                "or copy the series again"
            )


def check_regular(ordered: Sequence[Slice], along: Vector) -> None:
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


def position(each: Slice) -> Vector:
    """Return the centre of the first pixel of a slice that has a place."""
    return _known(each.frame.position)


def _known(vector: Vector | None) -> Vector:
    assert vector is not None
    return vector
