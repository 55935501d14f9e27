"""Shared code of layouts with a ``dataset.json``: labels, channels, and masks without images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.data.dataset import Case, Problem, Region, list_names
from deconvseg.data.labels.painting import Paint, check_painting
from deconvseg.data.listing import list_image_files
from deconvseg.errors import InputError


@dataclass(frozen=True)
class DeclaredLabels:
    """The "labels" of a dataset.json; ``names`` excludes the ignore label."""

    names: Mapping[int, str]
    regions: tuple[Region, ...] | None = None
    ignore: int | None = None


def parse_labels(record: Mapping[str, Any], source: Path) -> DeclaredLabels | None:
    """Parse the labels of a dataset.json: name → value or [values] (nnU-Net 2), or "value" → name (Decathlon)."""
    labels = record.get("labels")
    if labels is None or labels == {}:
        return None
    if not isinstance(labels, Mapping):
        raise InputError(f'{source}: "labels" must map names to values, not be {labels!r}')
    if labels and all(str(key).lstrip("-").isdigit() and isinstance(name, str) for key, name in labels.items()):
        return DeclaredLabels({int(value): name for value, name in labels.items()})
    members = {name: _label_values(name, value, source) for name, value in labels.items()}
    ignore = _ignore_label(members, source)
    names = {values[0]: name for name, values in members.items() if len(values) == 1}
    for values in members.values():
        names.update({value: f"label {value}" for value in values if value not in names})
    regions = None
    if any(isinstance(value, list) for value in labels.values()):
        regions = _regions(members, record, source)
    return DeclaredLabels(dict(sorted(names.items())), regions, ignore)


def _regions(members: Mapping[str, tuple[int, ...]], record: Mapping[str, Any], source: Path) -> tuple[Region, ...]:
    classes = {name: values for name, values in members.items() if values != (0,)}
    key = "regions_class_order"
    order = record.get(key)
    if not isinstance(order, list) or len(order) != len(classes) or not all(map(_is_integer, order)):
        raise InputError(
            f'{source}: labels that are lists need "{key}" with one value for each of '
            f"{', '.join(classes)}, not {order!r}"
        )
    known = sorted({value for values in classes.values() for value in values} - {0})
    for place, values in (*((f"labels.{name}", values) for name, values in classes.items()), (key, order)):
        unknown = [value for value in values if value not in known]
        if unknown:
            raise InputError(
                f'{source}: "{place}" has {list_names(unknown)}, but the labels of regions are '
                f"{', '.join(map(str, known))}, and 0 is the background; correct it"
            )
    regions = tuple(Region(name, values, value) for (name, values), value in zip(classes.items(), order, strict=True))
    for region in regions:
        if region.written_as not in region.labels or order.count(region.written_as) > 1:
            raise InputError(
                f'{source}: "{key}" has {region.written_as} for {region.name}, but each value must be one of its own '
                f"region's ({', '.join(map(str, region.labels))} here) and no other region's; correct {order}"
            )
    paints = [Paint(region.name, frozenset(region.labels), region.written_as) for region in regions]
    check_painting(paints, str(source), f'correct "labels" or "{key}"')
    return regions


def _ignore_label(members: dict[str, tuple[int, ...]], source: Path) -> int | None:
    """Remove nnU-Net's ignore label, a value that no other label has, from the labels and return it."""
    values = members.pop("ignore", None)
    if values is None:
        return None
    others = {value for label in members.values() for value in label}
    if len(values) != 1 or values[0] in others:
        raise InputError(
            f'{source}: "labels.ignore" must be one value that no other label has, not {list_names(values)}'
        )
    return values[0]


def _label_values(name: str, value: object, source: Path) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(map(_is_integer, values)):
        raise InputError(f"{source}: the label {name!r} must be an integer or a list of integers, not {value!r}")
    return tuple(values)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def numbered_names(record: Mapping[str, Any], keys: tuple[str, ...], source: Path) -> tuple[str, ...]:
    """Return the names of ``{"0": name, "1": name}`` in the order of their numbers, or an empty tuple."""
    names: Any = next((record[key] for key in keys if key in record), {})
    if not isinstance(names, Mapping) or sorted(map(str, names)) != sorted(str(n) for n in range(len(names))):
        raise InputError(f'{source}: "{keys[0]}" must number its names from "0" on, not be {names!r}')
    return tuple(str(names[key]) for key in sorted(names, key=int))


def missing_masks(cases: tuple[Case, ...]) -> tuple[Problem, ...]:
    """Return an error for each case without a mask."""
    return tuple(
        Problem(str(case.images[0]), "has no mask", "error", case.name) for case in cases if case.label is None
    )


def orphans(folder: Path, used: Iterable[Path | None]) -> tuple[Problem, ...]:
    """Return a warning for each mask of a folder that is not in ``used``."""
    if not folder.is_dir():
        return ()
    known = {os.path.realpath(path) for path in used if path is not None}
    return tuple(
        Problem(str(path), "is a mask without an image", "warning")
        for path in list_image_files(folder)
        if os.path.realpath(path) not in known
    )
