"""Replace the labels that a layout declares by those of the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deconvseg.data.dataset import Dataset, Problem, list_names
from deconvseg.data.labels.declared import (
    BACKGROUND,
    DeclaredLabels,
    declare_labels,
    override_labels,
)
from deconvseg.data.labels.label_files import LABEL_FILES, NoLabelFileError, parse_labels, read_label_file
from deconvseg.errors import InputError


def read_labels(texts: Sequence[str]) -> DeclaredLabels | None:
    """Return the declaration of texts such as ``1=organ`` and label files, or None without any."""
    return declare_labels(parse_labels(texts), "`labels`") if texts else None


def labels_beside(root: Path) -> tuple[DeclaredLabels | None, tuple[Problem, ...]]:
    """Return the declaration of a label file in a dataset's folder, and a warning if it is not a label file."""
    folder = root if root.is_dir() else root.parent
    found = [folder / name for name in LABEL_FILES if (folder / name).is_file() and folder / name != root]
    if len(found) > 1:
        raise InputError(f"{folder} has {list_names(path.name for path in found)}; keep one of them")
    if not found:
        return None, ()
    try:
        return declare_labels(read_label_file(found[0]), str(found[0])), ()
    except NoLabelFileError as error:
        why = str(error).removeprefix(str(found[0])).strip(" :")
        return None, (Problem(str(found[0]), f"is not read as a label file: it {why}", "warning"),)


def name_labels(dataset: Dataset, given: DeclaredLabels | None) -> Dataset:
    """Return the dataset with the labels ``given``, or else, if it declares none, with those of a file in its folder.

    Declarations of the dataset are replaced name by name, with a warning for each changed name.
    """
    source = "`labels`"
    if given is None and dataset.label_names is None:
        given, told = labels_beside(dataset.root)
        dataset = replace(dataset, problems=(*dataset.problems, *told))
    if given is None:
        return dataset
    if dataset.foreground:
        return _name_foreground(dataset, given, source)
    if dataset.label_names is not None:
        known = DeclaredLabels(dataset.label_names, dataset.regions, dataset.ignore_label)
        given, changed = override_labels(known, given)
        told = tuple(Problem(str(dataset.root), f"names a label differently: {text}", "warning") for text in changed)
        dataset = replace(dataset, problems=(*dataset.problems, *told))
    return replace(
        dataset,
        label_names=given.names,
        regions=given.regions,
        ignore_label=given.ignore,
        merged_labels=given.merged,
        label_colours=given.colours,
        mask_colours=given.colour_values,
    )


def _name_foreground(dataset: Dataset, given: DeclaredLabels, source: str) -> Dataset:
    """Return the dataset with the given name for its only class; `InputError` if several are named."""
    names = [name for value, name in given.names.items() if value and name != BACKGROUND]
    if len(names) > 1 or given.regions:
        raise InputError(
            f"{source} names {list_names(names)}, but `foreground=True` merges all labels into one class; name one "
            "class, or omit it"
        )
    return replace(
        dataset,
        foreground_name=names[0] if names else dataset.foreground_name,
        label_colours=given.colours,
        ignore_label=dataset.ignore_label if given.ignore is None else given.ignore,
        mask_colours=given.colour_values,
    )
