"""Resolve the training, validation and test cases of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from deconvseg.data.dataset import Dataset, Exclusion, list_names
from deconvseg.data.splits.drawing import Strata, draw_folds
from deconvseg.data.splits.folds import DEFAULT_FOLDS, check_number
from deconvseg.data.splits.reading import Splits, has_empty_val, read_folds, read_splits
from deconvseg.errors import InputError
from deconvseg.text import number_of


def resolve_folds(
    dataset: Dataset,
    splits_file: str | PathLike[str] | None,
    *,
    folds: int | None = None,
    strata: Strata,
    seed: int = 0,
) -> tuple[Splits, ...]:
    """Return cross-validation folds: those of a splits file with a list of folds (nnU-Net), or stratified folds.

    Stratified folds use all labelled cases except the test cases of ``splits_file`` or of the dataset's own file;
    ``strata`` gives the value to balance, and cases of one group (`Dataset.groups`) stay together. Raises `InputError`
    for a number of folds that the file or the cases do not allow, for a case that two folds validate on or that is a
    test case of another fold, and for a case without a mask.

    Example:
        >>> from deconvseg.data import open_dataset, resolve_folds
        >>> dataset = open_dataset("VOLUMES")
        >>> folds = resolve_folds(dataset, None, folds=5, strata=lambda data: {case.name: "all" for case in data.cases})
        >>> sorted(fold.val[0] for fold in folds)
        ['ball0', 'ball1', 'ball2', 'ball3', 'ball4']

    """
    source = Path(splits_file) if splits_file is not None else dataset.splits_file
    given = None if source is None else read_folds(source, dataset)
    if source is not None and given is not None:
        if folds is not None and folds != len(given):
            raise InputError(f"{source} has {len(given)} folds, but {folds} were asked for; leave `folds` out")
        _check_folds(dataset, given, source, fewest=2 if folds is None else folds)
        return given
    declared = _split_as_declared(dataset)
    names, test = declared.train, declared.test
    if source is not None:
        parts = read_splits(source, dataset.names, excluded=dataset.excluded_names)
        _check_labelled(dataset, parts, source)
        names, test = (*parts.train, *parts.val), parts.test
    if folds == 1:
        raise InputError("`folds=1`: a file of splits with one fold is needed (`splits`); otherwise ask for 2 or more")
    folds = DEFAULT_FOLDS if folds is None else folds
    check_number(folds, len(names))
    excluded = _excluded(dataset, source, None, ("train", "val"))
    pairs = draw_folds(dataset, names, excluded, folds=folds, seed=seed, strata=strata)
    return tuple(Splits(train, val, test) for train, val in pairs)


def _check_folds(dataset: Dataset, folds: Sequence[Splits], source: Path, *, fewest: int) -> None:
    if len(folds) < fewest or not all(part.train and part.val for part in folds):
        raise InputError(
            f"{source}: cross-validation needs two folds or more, each with cases to train and to validate"
        )
    times = Counter(name for part in folds for name in part.val)
    if twice := sorted(name for name, count in times.items() if count > 1):
        raise InputError(f"{source}: several folds validate on {list_names(twice)}; each case is held out once")
    tested = {name for part in folds for name in part.test}
    if used := sorted(tested & {name for part in folds for name in (*part.train, *part.val)}):
        raise InputError(f"{source}: {list_names(used)} are test cases of one fold and not of another")
    for part in folds:
        _check_labelled(dataset, part, source)


def resolve_splits(
    dataset: Dataset,
    splits_file: str | PathLike[str] | None,
    *,
    fold: int | str | None,
    seed: int = 0,
    strata: Strata | None = None,
) -> Splits:
    """Return the splits of a run: from ``splits_file``, the dataset's own file, or folds of all labelled cases.

    If the file has no "val", the training cases are divided into 5 folds, which keep groups (`Dataset.groups`)
    together, and fold ``fold`` (default 0) is the validation set. ``strata`` gives the value by which these folds are
    balanced; they are then those of `resolve_folds`. Excluded cases (`Dataset.excluded`) do not move other cases to
    another fold. With ``fold="all"`` all cases except the test cases are used for training, and "val" is empty. Raises
    `InputError` for a fold that does not exist, and for training or validation cases without a mask.

    Example:
        >>> from deconvseg.data import open_dataset, resolve_splits
        >>> splits = resolve_splits(open_dataset("VOLUMES"), None, fold=0)
        >>> len(splits.train), len(splits.val), splits.test
        (4, 1, ())

    """
    if isinstance(fold, str) and fold != "all":
        if not fold.isdigit():
            raise InputError(f'the fold must be a number or "all", not {fold!r}')
        fold = int(fold)
    source = Path(splits_file) if splits_file is not None else dataset.splits_file
    number = None if isinstance(fold, str) else fold
    if source is None:
        given = _split_as_declared(dataset)
    else:
        given = read_splits(source, dataset.names, fold=number, excluded=dataset.excluded_names)
        _check_labelled(dataset, given, source)
        if fold != "all" and not given.val and has_empty_val(source, number):
            raise InputError(
                f'{source}: "val" is empty; name cases to validate on, leave "val" out to hold out a part of the '
                "training cases, or train on all of them (`fold='all'`)"
            )
    if fold == "all":
        return Splits((*given.train, *given.val), (), given.test)
    if given.val:
        return given
    excluded = _excluded(dataset, source, number, ("train",))
    folds = draw_folds(dataset, given.train, excluded, folds=None, seed=seed, strata=strata)
    if not 0 <= (number or 0) < len(folds):
        raise InputError(f"fold {number} does not exist: {len(given.train)} cases make the folds 0 … {len(folds) - 1}")
    train, val = folds[number or 0]
    return Splits(train, val, given.test)


def _excluded(dataset: Dataset, source: Path | None, fold: int | None, splits: Sequence[str]) -> tuple[Exclusion, ...]:
    """Return the excluded cases with a mask that would be in these splits of a file, or are not declared apart."""
    excluded = tuple(each for each in dataset.excluded if each.labelled)
    if source is None:
        apart = {*dataset.declared_test, *dataset.declared_unused}
        return tuple(each for each in excluded if each.case not in apart)
    if excluded:
        parts = read_splits(source, (*dataset.names, *dataset.excluded_names), fold=fold)
        whole = {name for split in splits for name in getattr(parts, split)}
        excluded = tuple(each for each in excluded if each.case in whole)
    return excluded


def _split_as_declared(dataset: Dataset) -> Splits:
    """Return the splits without a file: the test cases that the layout declares, and all others to train on.

    Cases that the layout keeps out of all splits are in none; "val" is empty. `InputError` without any mask.
    """
    labelled, test, unused = _labelled(dataset), set(dataset.declared_test), set(dataset.declared_unused)
    train = tuple(name for name in labelled if name not in test and name not in unused)
    return Splits(train, (), tuple(name for name in labelled if name in test))


def _labelled(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of the cases with a mask; `InputError` if there are none."""
    if dataset.cases and not dataset.labelled_names:
        how = "add a column label with their masks" if dataset.layout == "csv" else "add their masks"
        raise InputError(f"{dataset.root}: none of its {number_of(len(dataset.cases), 'case')} has a mask; {how}")
    return dataset.labelled_names


def _check_labelled(dataset: Dataset, splits: Splits, source: Path) -> None:
    unlabelled = sorted({*splits.train, *splits.val} - set(dataset.labelled_names))
    if unlabelled:
        raise InputError(f"{source} trains or validates on cases without a mask: {list_names(unlabelled)}")
