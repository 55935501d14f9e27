"""What a person says of the labels of a dataset, put in the place of what its layout says."""

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
    """What texts as ``1=organ`` and files of labels declare together, or None where there are none."""
    return declare_labels(parse_labels(texts), "`labels`") if texts else None


def labels_beside(root: Path) -> tuple[DeclaredLabels | None, tuple[Problem, ...]]:
    """What a file of labels in a dataset's folder declares, and a warning about one that is something else."""
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
        return None, (Problem(str(found[0]), f"is not taken for names of labels: it {why}", "warning"),)


def name_labels(dataset: Dataset, given: DeclaredLabels | None) -> Dataset:
    """The dataset with the labels that are ``given``, else with those of a file in its folder.

    What the dataset itself declares is replaced name by name, and each name that changes is a warning.
    """
    source = "`labels`"
    if given is None:
        given, told = labels_beside(dataset.root)
        dataset = replace(dataset, problems=(*dataset.problems, *told))
    if given is None:
        return dataset
    if dataset.foreground:
        return _name_foreground(dataset, given, source)
    if dataset.label_names is not None:
        known = DeclaredLabels(dataset.label_names, dataset.regions, dataset.ignore_label)
        given, changed = override_labels(known, given)
        told = tuple(Problem(str(dataset.root), f"names a label otherwise: {text}", "warning") for text in changed)
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
    """The dataset whose only class has the given name; `InputError` where there are several."""
    names = [name for value, name in given.names.items() if value and name != BACKGROUND]
    if len(names) > 1 or given.regions:
        raise InputError(
            f"{source} names {list_names(names)}, but `foreground=True` takes all labels as one class; name one class, "
            "or leave that out"
        )
    return replace(
        dataset,
        foreground_name=names[0] if names else dataset.foreground_name,
        label_colours=given.colours,
        ignore_label=dataset.ignore_label if given.ignore is None else given.ignore,
        mask_colours=given.colour_values,
    )
