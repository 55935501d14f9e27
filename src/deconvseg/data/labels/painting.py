"""Overlapping regions in one mask: the order of writing, and a check that the mask determines every region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deconvseg.errors import InputError


class Paint(NamedTuple):
    """A region of a mask: its name, the labels whose union it is, and the label that it is written as."""

    name: str
    labels: frozenset[int]
    written_as: int


def painting_order(regions: Sequence[Paint]) -> tuple[int, ...]:
    """Return the indices of the regions in painting order: each after all regions that contain it.

    Regions that do not contain each other keep the given order.
    """
    left, order = list(range(len(regions))), []
    while left:
        # The first that no other remaining region contains; it exists because containment is a partial order.
        place = next(p for p in left if not any(regions[p].labels < regions[other].labels for other in left))
        left.remove(place)
        order.append(place)
    return tuple(order)


def check_painting(regions: Sequence[Paint], where: str, advice: str) -> None:
    """Raise an error for regions that one mask cannot represent, even if they are predicted perfectly.

    After painting in order, the voxels of every label must have a label that belongs to the same regions. If they do
    not, an :class:`~deconvseg.errors.InputError` names the label and the regions; the message starts with ``where`` (a
    file or a plan) and ends with ``advice``.
    """
    order = painting_order(regions)
    for label in sorted({label for region in regions for label in region.labels}):
        having = [regions[place] for place in order if label in regions[place].labels]
        painted = having[-1].written_as
        wrong = [region.name for region in regions if (label in region.labels) != (painted in region.labels)]
        if wrong:
            names = " and ".join(repr(region.name) for region in having)
            lost = ", ".join(map(repr, wrong))
            raise InputError(
                f"{where}: a mask cannot hold these regions: voxels of {label} belong to {names}, but would be written "
                f"as {painted}, which is wrong for {lost}; {advice}"
            )
