"""Findings from the label values of masks: missing classes, uninformative masks, one object with two values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from deconvseg.data.dataset import Dataset, Problem, list_names
from deconvseg.data.labels.encoding import WHITE, common_values
from deconvseg.data.labels.sources import MaskSource
from deconvseg.data.reading import read_label_white
from deconvseg.errors import InputError
from deconvseg.text import number_of

CaseValues = Mapping[str, Collection[int]]


def class_names(dataset: Dataset) -> Mapping[int, str]:
    """Return the names of the declared classes by label value, including the background."""
    if dataset.foreground:
        return {0: "background", 1: dataset.foreground_name}
    return dataset.label_names or {0: "background"}


def common_labels(dataset: Dataset, values: CaseValues) -> dict[int, int]:
    """Return the common value of each label value (`common_values`); each value itself if labels are declared."""
    if dataset.foreground or dataset.label_names is not None:
        return {value: value for found in values.values() for value in found}
    masks = {_mask(dataset, name): found for name, found in values.items()}
    return {0: 0} | common_values(masks, _whites(masks))


def find_label_problems(dataset: Dataset, values: CaseValues) -> tuple[Problem, ...]:
    """Return the problems found in the label values of all these masks together."""
    root, ignore = str(dataset.root), dataset.ignore_label
    everything = {value for found in values.values() for value in found}
    if everything and not everything - {0, ignore}:
        return (Problem(root, "every mask is empty: there is no class to learn; give masks with labels", "error"),)
    problems = []
    if 0 not in everything and len(everything - {ignore}) == 1:
        problems.append(
            Problem(root, "no mask has a pixel of background (0); look at the masks, or invert them", "warning")
        )
    elif len(values) > 1 and all(len(set(found) - {ignore}) < 2 for found in values.values()):
        message = "each mask has one value everywhere, so there is no outline to learn; check the masks"
        problems.append(Problem(root, message, "warning"))
    return (*problems, *_other_white(dataset, values))


def find_absent_classes(
    dataset: Dataset, values: CaseValues, training: Collection[str] | None = None
) -> tuple[Problem, ...]:
    """Return warnings for declared classes without a mask; with ``training``, for those that only these cases lack."""
    everything = {value for found in values.values() for value in found}
    expected, found, where = set(class_names(dataset)), everything, "any mask"
    if training is not None:
        expected, where = everything, "the training masks"
        found = {value for name in training if name in values for value in values[name]}
    if not everything - {0, dataset.ignore_label}:
        return ()
    names = class_names(dataset)
    return tuple(
        Problem(str(dataset.root), describe_absent_class(names.get(value, f"label {value}"), value, where), "warning")
        for value in sorted(expected - {0, dataset.ignore_label} - found)
    )


def describe_masks(values: CaseValues) -> list[str]:
    """Return lines about masks without foreground, or without background, if other masks have it."""
    lines = []
    for what, chosen in (
        ("empty", [name for name, found in values.items() if not set(found) - {0}]),
        ("foreground everywhere", [name for name, found in values.items() if 0 not in found]),
    ):
        if chosen:
            lines.append(f"{len(chosen)} of {number_of(len(values), 'mask')} are {what}: {list_names(chosen)}")
    return lines


def describe_parts(dataset: Dataset) -> list[str]:
    """Lines about masks that are made of several files, and about classes that overlap there; their files are read."""
    several = [case for case in dataset.cases if len(case.masks) > 1]
    named = [case for case in several if any(part.value is not None for part in case.masks)]
    lines = []
    if several and not named:
        names = list_names((case.name for case in several), limit=3)
        lines.append(
            f"{len(several)} of {number_of(len(dataset.labelled_names), 'mask')} are united from several files: {names}"
        )
    overlaps: dict[str, int] = {}
    for case in named:
        # A file that cannot be read is named as a problem of its case.
        with suppress(InputError):
            overlaps[case.name] = MaskSource(case.masks).count_overlaps()
    if found := {name: count for name, count in overlaps.items() if count}:
        names = list_names(found, limit=3)
        lines.append(
            f"classes overlap in {len(found)} of {number_of(len(dataset.labelled_names), 'mask')}, "
            f"{sum(found.values())} voxels: "
            f"the one that is named later (`mask`) is painted over the others ({names})"
        )
    return lines


def describe_absent_class(name: str, value: int, where: str) -> str:
    """Return the sentence about a class that has no voxel in some masks."""
    return f"the class {name} ({value}) has no voxel in {where}"


def _whites(masks: CaseValues) -> dict[str, int]:
    """Return the white value of each file that holds only 0 and the white of an unusual bit depth."""
    found = {file: max(values) for file, values in masks.items() if len(set(values) - {0}) == 1}
    asked = {file: read_label_white(file, value) for file, value in found.items()}
    return {file: white for file, white in asked.items() if white is not None}


def _other_white(dataset: Dataset, values: CaseValues) -> list[Problem]:
    """Return a warning if each mask has one class but the masks use different values, white among them."""
    if dataset.foreground or dataset.label_names is not None:
        return []
    kinds: dict[int, list[str]] = {}
    for name, found in values.items():
        others = set(found) - {0}
        if len(others) > 1:
            return []
        for value in others:
            kinds.setdefault(value, []).append(name)
    white = [value for value in kinds if value in WHITE[1:]]
    if not white or len(kinds) < 2:
        return []
    examples = "; ".join(f"{value} in {_mask(dataset, names[0])}" for value, names in sorted(kinds.items()))
    message = (
        f"each mask has one label, but not the same ({examples}), and each value is taken for a class of its own; "
        "store one object as one value, or take all as one class (`foreground=True`)"
    )
    return [Problem(str(dataset.root), message, "warning")]


def _mask(dataset: Dataset, name: str) -> str:
    label: Path | None = dataset.case(name).label
    if label is None:
        raise InputError(f"the case {name} of {dataset.root} has no mask")
    return str(label)
