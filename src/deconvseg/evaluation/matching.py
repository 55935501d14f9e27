"""Match the true masks of a dataset, a folder or a file with predictions of the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import (
    MaskPart,
    MaskSource,
    Problem,
    Region,
    case_stem,
    declare_labels,
    find_masks_beside,
    image_suffixes,
    is_dataset,
    is_image_file,
    list_bids_masks,
    list_image_files,
    list_names,
    match_exclusions,
    open_dataset,
    parse_labels,
    propose_patterns,
    select_split,
)
from deconvseg.errors import InputError
from deconvseg.text import number_of

Location = str | PathLike[str]


@dataclass(frozen=True)
class Truths:
    """True masks by case name; several files with one name are ambiguous and reported when the case is evaluated.

    ``sources`` has the masks with several files, merged values or colours; ``merged`` maps further values of a class to
    its main value.
    """

    files: Mapping[str, Sequence[Path]]
    names: Sequence[str]
    images: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    labels: Mapping[int, str] | None = None
    regions: Sequence[Region] | None = None
    ignore: int | None = None
    splits_file: Path | None = None
    left_out: Sequence[Problem] = ()
    sources: Mapping[str, MaskSource] = field(default_factory=dict)
    merged: Mapping[int, int] = field(default_factory=dict)
    excluded: Sequence[str] = ()
    declared_test: Sequence[str] = ()
    foreground: bool = False
    foreground_name: str = "foreground"


def find_truths(truth: Path, reading: Mapping[str, Any] | None = None) -> Truths:
    """Return the true masks of a dataset, a folder or a file; :class:`InputError` if there are none.

    ``reading`` has options of `open_dataset` (``image``, ``mask``, ``labels``, ``exclude``).
    """
    given = {name: value for name, value in (reading or {}).items() if value is not None}
    labels = given.get("labels")
    if truth.is_file() and is_image_file(truth):
        return _declare(Truths({case_stem(truth): [truth]}, [case_stem(truth)]), labels)
    patterns = "image" in given or "mask" in given
    if truth.is_dir() and not patterns and not is_dataset(truth) and (files := _masks_in(truth)):
        _refuse_images(truth)
        return _declare(_leave_out(files, given.get("exclude")), labels)
    dataset = open_dataset(truth, **given)
    sources = {case.name: dataset.mask_source(case) for case in dataset.cases}
    files = {case.name: [case.label] for case in dataset.cases if case.label is not None}
    if not files:
        raise InputError(
            f"{truth}: none of the {number_of(len(dataset.cases), 'case')} has a mask; give the folder of true masks"
        )
    return Truths(
        files=files,
        names=dataset.names,
        images={case.name: case.images for case in dataset.cases},
        labels=dataset.label_names,
        regions=dataset.regions,
        ignore=dataset.ignore_label,
        splits_file=dataset.splits_file,
        left_out=dataset.left_out,
        sources={name: source for name, source in sources.items() if source is not None and not source.is_plain},
        merged=dataset.merged_labels,
        excluded=dataset.excluded_names,
        declared_test=dataset.declared_test,
        foreground=dataset.foreground,
        foreground_name=dataset.foreground_name,
    )


def _refuse_images(folder: Path) -> None:
    """Refuse a folder that holds images and their masks side by side: which files are the masks is not known."""
    if masks := sorted(find_masks_beside(list_image_files(folder))):
        proposed = propose_patterns(folder) or "patterns of their names (`image`, `mask`)"
        raise InputError(
            f"{folder}: holds images and their masks side by side ({masks[0].name}); give the run that made the "
            f"predictions (`run=RUN`), or {proposed}"
        )


def _leave_out(files: Mapping[str, Sequence[Path]], exclude: Sequence[str] | None) -> Truths:
    """Return the masks of a folder without those of excluded cases."""
    excluded: set[str] = set()
    for text in exclude or ():
        found = match_exclusions(list(files), text)
        if not found:
            raise InputError(f"`exclude`: no true mask is of a case {text!r}; there are {list_names(sorted(files))}")
        excluded |= {exclusion.case for exclusion in found}
    kept = {name: paths for name, paths in files.items() if name not in excluded}
    if not kept:
        raise InputError("`exclude` leaves no true mask; leave some in")
    return Truths(kept, list(kept), excluded=sorted(excluded))


def _declare(truths: Truths, texts: Sequence[str] | None) -> Truths:
    """Return the masks with the names and values of labels such as ``1=organ``."""
    if not texts:
        return truths
    labels = declare_labels(parse_labels(texts), "`labels`")
    sources = {
        name: MaskSource((MaskPart(paths[0]),), labels.merged, labels.colour_values)
        for name, paths in truths.files.items()
    }
    return replace(
        truths,
        labels=labels.names,
        regions=labels.regions,
        ignore=labels.ignore,
        sources={name: source for name, source in sources.items() if not source.is_plain},
        merged=labels.merged,
    )


def find_predictions(prediction: Path, truths: Truths) -> dict[str, list[Path]]:
    """Return predicted masks by case name; a single prediction gets the name of a single true mask."""
    if prediction.is_dir():
        if files := list_masks(prediction):
            return files
        raise InputError(
            f"{prediction}: no masks in it ({', '.join(image_suffixes())}); give the folder that predict wrote"
        )
    if not prediction.is_file():
        raise InputError(f"{prediction}: no such file or folder; give the masks that predict wrote")
    # The files of a single pair need not have a common name.
    return {next(iter(truths.files)) if len(truths.files) == 1 else case_stem(prediction): [prediction]}


def list_masks(folder: Path) -> dict[str, list[Path]]:
    """Return the masks in a folder or a BIDS derivative by case name."""
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
    """Return the case names of a split, or all case names; :class:`InputError` if none of them is predicted."""
    chosen = select_split(
        truths.names,
        split,
        splits=splits,
        own=truths.splits_file,
        fold=fold,
        excluded=truths.excluded,
        test=truths.declared_test,
    )
    names = sorted(truths.files if chosen is None else chosen)
    if not any(name in predictions for name in names):
        raise InputError(
            f"no prediction has the name of a case: the cases are {list_names(names)}, "
            f"the predictions {list_names(sorted(predictions))}"
        )
    return names
