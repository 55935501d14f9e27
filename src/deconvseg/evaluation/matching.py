"""Which masks belong together: the truths of a dataset, a folder or a file, and predictions of the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from deconvseg.data import (
    Problem,
    Region,
    case_stem,
    image_suffixes,
    is_dataset,
    is_image_file,
    list_bids_masks,
    list_image_files,
    list_names,
    open_dataset,
    select_split,
)
from deconvseg.errors import InputError

Location = str | PathLike[str]


@dataclass(frozen=True)
class Truths:
    """Masks by case name; several files under one name are ambiguous and reported when their turn comes."""

    files: Mapping[str, Sequence[Path]]
    names: Sequence[str]
    images: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    labels: Mapping[int, str] | None = None
    regions: Sequence[Region] | None = None
    ignore: int | None = None
    splits_file: Path | None = None
    left_out: Sequence[Problem] = ()


def find_truths(truth: Path) -> Truths:
    """Return the true masks of a dataset, a folder or a file; :class:`InputError` where there are none."""
    if truth.is_file() and is_image_file(truth):
        return Truths({case_stem(truth): [truth]}, [case_stem(truth)])
    if truth.is_dir() and not is_dataset(truth) and (files := _masks_in(truth)):
        return Truths(files, list(files))
    dataset = open_dataset(truth)
    files = {case.name: [case.label] for case in dataset.cases if case.label is not None}
    if not files:
        raise InputError(f"{truth}: none of the {len(dataset.cases)} cases has a mask; give the folder of true masks")
    return Truths(
        files=files,
        names=dataset.names,
        images={case.name: case.images for case in dataset.cases},
        labels=dataset.label_names,
        regions=dataset.regions,
        ignore=dataset.ignore_label,
        splits_file=dataset.splits_file,
        left_out=dataset.left_out,
    )


def find_predictions(prediction: Path, truths: Truths) -> dict[str, list[Path]]:
    """Return predicted masks by case name; a single one has the name of a single truth."""
    if prediction.is_dir():
        if files := list_masks(prediction):
            return files
        raise InputError(
            f"{prediction}: no masks in it ({', '.join(image_suffixes())}); give the folder that predict wrote"
        )
    if not prediction.is_file():
        raise InputError(f"{prediction}: no such file or folder; give the masks that predict wrote")
    # A single pair needs no common name.
    return {next(iter(truths.files)) if len(truths.files) == 1 else case_stem(prediction): [prediction]}


def list_masks(folder: Path) -> dict[str, list[Path]]:
    """Return the masks in a folder, or in that of a BIDS derivative, by case name; none where there are none."""
    return _masks_in(folder) or list_bids_masks(folder)


def _masks_in(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in list_image_files(folder):
        files.setdefault(case_stem(path), []).append(path)
    return files


def choose_cases(
    truths: Truths,
    predictions: Mapping[str, Sequence[Path]],
    splits: Location | None,
    split: str | None,
    fold: int | None,
) -> list[str]:
    """Return the names of the cases of a split, or of all; :class:`InputError` where none of them is predicted."""
    chosen = select_split(truths.names, split, splits=splits, own=truths.splits_file, fold=fold)
    names = sorted(truths.files if chosen is None else chosen)
    if not any(name in predictions for name in names):
        raise InputError(
            f"no prediction has the name of a case: the cases are {list_names(names)}, "
            f"the predictions {list_names(sorted(predictions))}"
        )
    return names
