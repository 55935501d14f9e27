"""The parts of a converted dataset: training cases, test cases, and folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deconvseg.data.dataset import Dataset, list_names
from deconvseg.data.splits.reading import Splits, read_folds, read_splits
from deconvseg.data.splits.resolving import resolve_splits
from deconvseg.errors import InputError


@dataclass(frozen=True)
class Parts:
    """The names of the training and test cases, of those in no part, and the records of splits to write by file name.

    Cases without a mask are test cases.
    """

    training: tuple[str, ...]
    testing: tuple[str, ...]
    left_out: tuple[str, ...]
    files: Mapping[str, Any]


def divide(dataset: Dataset, splits: Path | None) -> Parts:
    """Divide the cases as the file ``splits``, the dataset's own file or its declared test cases say.

    ``splits_final.json`` (nnU-Net's) has the folds, ``splits.json`` (read by this package) also the test cases.
    Raises `InputError` for training cases without a mask, and for a dataset without any mask.
    """
    source = splits or dataset.splits_file
    if source is None:
        found = resolve_splits(dataset, None, fold="all")
        declared = {"splits.json": {"test": list(found.test)}} if found.test else {}
        return _parts(dataset, found.train, found.test, declared)
    folds = read_folds(source, dataset)
    if folds is not None:
        train = [name for fold in folds for name in (*fold.train, *fold.val)]
        test = [name for fold in folds for name in fold.test]
        files: dict[str, Any] = {"splits_final.json": [_fold(fold) for fold in folds]}
        if test:
            files["splits.json"] = [{**_fold(fold), "test": list(fold.test)} for fold in folds]
        return _parts(dataset, train, test, files, source)
    given = read_splits(source, dataset.names, excluded=dataset.excluded_names)
    record = {"train": list(given.train), "val": list(given.val), "test": list(given.test)}
    if not given.val:
        # An empty list says that there is no validation; without one, folds are drawn.
        del record["val"]
    files = {"splits.json": record, **({"splits_final.json": [_fold(given)]} if given.val else {})}
    return _parts(dataset, (*given.train, *given.val), given.test, files, source)


def _fold(fold: Splits) -> dict[str, list[str]]:
    return {"train": list(fold.train), "val": list(fold.val)}


def _parts(
    dataset: Dataset,
    train: Iterable[str],
    test: Iterable[str],
    files: Mapping[str, Any],
    source: Path | None = None,
) -> Parts:
    """Return the parts in the dataset's order."""
    training, testing, labelled = set(train), set(test), set(dataset.labelled_names)
    if not training:
        raise InputError(f"{source or dataset.root}: no case with a mask is a training case")
    if unlabelled := sorted(training - labelled):
        raise InputError(f"{source}: trains or validates on cases without a mask: {list_names(unlabelled)}")
    if both := sorted(training & testing):
        raise InputError(f"{source}: {list_names(both)} are test cases of one fold and not of another")
    testing |= set(dataset.names) - labelled
    return Parts(
        training=tuple(name for name in dataset.names if name in training),
        testing=tuple(name for name in dataset.names if name in testing),
        left_out=tuple(name for name in dataset.names if name not in training | testing),
        files=files,
    )
