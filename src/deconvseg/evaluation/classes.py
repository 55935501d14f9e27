"""The scored classes: single labels, unions of labels (regions), or all foreground as one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deconvseg.data import Region, list_names
from deconvseg.errors import InputError
from deconvseg.planning import Plan


@dataclass(frozen=True)
class Classes:
    """Class names by key, and the label values of unions; with ``extend`` other occurring labels are added.

    The key of a class is its label value; the key of a region is the value that it is written as. ``by_region`` is true
    if the classes are regions, which predictions may have in files of their own.
    """

    names: Mapping[int, str]
    members: Mapping[int, tuple[int, ...]]
    extend: bool = False
    foreground: bool = False
    by_region: bool = False

    @property
    def values(self) -> set[int]:
        """All label values that belong to any class."""
        return {value for key in self.names for value in self.members.get(key, (key,))}


def choose_classes(
    *,
    labels: Mapping[int, str] | None,
    foreground: bool,
    plan: Plan | None,
    declared: Mapping[int, str] | None,
    regions: Sequence[Region] | None,
    ignore: int | None,
    merged: Mapping[int, int] | None = None,
    foreground_name: str = "foreground",
) -> Classes:
    """Return the requested classes: foreground, ``labels`` or those of a plan, else those that the dataset declares.

    The foreground is named as in the plan, else ``foreground_name``. ``merged`` maps further values of a declared class
    to its main value. Raises :class:`InputError` if two of the first three are given, or two regions are written as the
    same value.
    """
    if sum((foreground, labels is not None, plan is not None)) > 1:
        raise InputError(
            "the classes are those of labels, of a run, or the foreground as a single one: leave all but one out"
        )
    if foreground or (plan is not None and plan.labels.foreground_only):
        named_so = foreground_name if plan is None or not plan.labels.foreground_only else plan.labels.names[1]
        return Classes({1: named_so}, {}, foreground=True)
    if plan is not None:
        return _of_regions(plan.structures, plan.labels.merged, by_region=plan.regions is not None)
    if labels is None and regions:
        return _of_regions(regions, merged or {}, by_region=True)
    named = (labels if labels is not None else declared) or {}
    names = {value: name for value, name in sorted(named.items()) if value not in (0, ignore)}
    further = {} if labels is not None or not merged else merged
    return Classes(names, _unite({value: (value,) for value in names}, further), extend=labels is None)


def _unite(members: Mapping[int, tuple[int, ...]], merged: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """Return the values of each class with several values: those of a union, and those merged into them."""
    found = {
        key: (*values, *(value for value, other in merged.items() if other in values))
        for key, values in members.items()
    }
    return {key: values for key, values in found.items() if values != (key,)}


def _of_regions(regions: Sequence[Region], merged: Mapping[int, int], *, by_region: bool) -> Classes:
    names = {region.written_as: region.name for region in regions}
    if len(names) < len(regions):
        twice = [region.name for region in regions if names[region.written_as] != region.name]
        raise InputError(
            f"the regions {list_names(twice)} are written as a value of another region; give each its own value in "
            "regions_class_order"
        )
    members = _unite({r.written_as: tuple(r.labels) for r in regions}, merged)
    return Classes(names, members, by_region=by_region)
