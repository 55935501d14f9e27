"""Regions that overlap, written into one mask: in which order, and whether the mask can say what each region is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deconvseg.errors import InputError


class Paint(NamedTuple):
    """A region as it is written into a mask: its name, the labels it is the union of, the label it is written as."""

    name: str
    labels: frozenset[int]
    written_as: int


def painting_order(regions: Sequence[Paint]) -> tuple[int, ...]:
    """The places of the regions in the order in which they are painted, each after all that contain more than it.

    Regions of which none contains another one keep the order in which they are given.
    """
    left, order = list(range(len(regions))), []
    while left:
        # The first that no other one left contains: there always is one, because containing is a partial order.
        place = next(p for p in left if not any(regions[p].labels < regions[other].labels for other in left))
        left.remove(place)
        order.append(place)
    return tuple(order)


def check_painting(regions: Sequence[Paint], where: str, advice: str) -> None:
    """Refuse regions that one mask cannot hold, however well they are predicted.

    Painted in their order, the voxels of every label must get a label that belongs to the same regions. Where they do
    not, :class:`~deconvseg.errors.InputError` names the label and the regions; ``where`` (a file or a plan) comes
    first, ``advice`` last.
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
