"""Resolve the training, validation and test cases of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from unicodedata import normalize

from deconvseg.data.dataset import Dataset, Exclusion, list_names
from deconvseg.data.json_files import read_json
from deconvseg.data.layouts.csv_layout import read_csv_splits
from deconvseg.data.splits.drawing import Strata, draw_folds
from deconvseg.data.splits.folds import DEFAULT_FOLDS, check_number
from deconvseg.errors import InputError, check_choice
from deconvseg.text import number_of


@dataclass(frozen=True)
class Splits:
    """Disjoint case names: ``train`` for training, ``val`` for model selection, ``test`` for the final evaluation."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def read_splits(
    path: str | PathLike[str], names: Sequence[str], *, fold: int | None = None, excluded: Collection[str] = ()
) -> Splits:
    """Read ``{"train", "val", "test"}`` (each optional), nnU-Net's list of such folds, or the column split of a CSV.

    If "train" is missing, every case of ``names`` that the file does not mention is in it. ``fold`` selects an entry of
    a list (default 0). Names in ``excluded`` may be listed, and are in no split. Raises `InputError` for names that are
    not in ``names``, a case in two splits, and a fold that does not exist in the file or conflicts with its fixed
    validation cases.

    Example:
        >>> from deconvseg.data import read_splits
        >>> splits = read_splits("splits.json", [f"disc{number}" for number in range(8)])
        >>> splits.val, splits.test
        (('disc4', 'disc5'), ('disc6', 'disc7'))

    """
    path = Path(path)
    record = read_csv_splits(path) if path.suffix.lower() == ".csv" else read_json(path)
    if isinstance(record, list):
        chosen = fold or 0
        if not 0 <= chosen < len(record):
            existing = f"the folds 0 … {len(record) - 1}" if record else "no folds"
            raise InputError(f"{path} has {existing}, but fold {chosen} was requested")
        record = record[chosen]
    elif fold and isinstance(record, Mapping) and record.get("val"):
        raise InputError(f'{path} fixes the validation cases, so fold {fold} does not exist; use fold 0 or "all"')
    if not isinstance(record, Mapping) or not set(record) & {"train", "val", "test"}:
        raise InputError(f'{path} must hold {{"train": […], "val": […], "test": […]}}, or a list of folds')
    unknown_keys = sorted(set(record) - {"train", "val", "test"})
    if unknown_keys:
        raise InputError(f"{path} has the unknown split {list_names(unknown_keys)}; known are train, val and test")
    record = {split: [name for name in _names_in(record, split, path) if name not in excluded] for split in record}
    val, test = _names_in(record, "val", path), _names_in(record, "test", path)
    mentioned = {*val, *test}
    rest = tuple(name for name in names if name not in mentioned)
    train = _names_in(record, "train", path) if "train" in record else rest
    _check_names(path, names, train, val, test)
    return Splits(train, val, test)


def select_split(
    names: Sequence[str],
    split: str | None,
    *,
    splits: str | PathLike[str] | None = None,
    own: str | PathLike[str] | None = None,
    fold: int | None = None,
    excluded: Collection[str] = (),
) -> tuple[str, ...] | None:
    """Return the cases of ``names`` in a split of the file ``splits``, or of ``own`` if that is not given.

    Returns None if neither a split nor a file is selected. Names in ``excluded`` may be in the file. Raises
    `InputError` for a file without a split, a split without a file, an unknown split, and a split without cases.

    Example:
        >>> from deconvseg.data import select_split
        >>> select_split([f"disc{number}" for number in range(8)], "test", splits="splits.json")
        ('disc6', 'disc7')

    """
    if split is None:
        if splits is not None or fold is not None:
            given = f"`fold={fold}`" if splits is None else splits
            raise InputError(f"{given} has several splits: say which one as `split`: train, val or test")
        return None
    source = own if splits is None else splits
    if source is None:
        raise InputError(f"the split {split!r} needs a splits file: give one as `splits`")
    check_choice(split, ("train", "val", "test"), "`split`")
    chosen: tuple[str, ...] = getattr(read_splits(source, names, fold=fold, excluded=excluded), split)
    if not chosen:
        raise InputError(f"{source}: the split {split!r} has no cases")
    return chosen


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
        _check_folds(dataset, given, source)
        return given
    declared = _split_as_declared(dataset)
    names, test = declared.train, declared.test
    if source is not None:
        parts = read_splits(source, dataset.names, excluded=dataset.excluded_names)
        _check_labelled(dataset, parts, source)
        names, test = (*parts.train, *parts.val), parts.test
    folds = DEFAULT_FOLDS if folds is None else folds
    check_number(folds, len(names))
    excluded = _excluded(dataset, source, None, ("train", "val"))
    pairs = draw_folds(dataset, names, excluded, folds=folds, seed=seed, strata=strata)
    return tuple(Splits(train, val, test) for train, val in pairs)


def read_folds(path: Path, dataset: Dataset) -> tuple[Splits, ...] | None:
    """Return the folds of a splits file that contains a list of folds; None for any other file.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from deconvseg.data import open_dataset, read_folds
        >>> folds = [{"train": ["disc0", "disc1"], "val": ["disc2"]}, {"train": ["disc1", "disc2"], "val": ["disc0"]}]
        >>> _ = Path("splits_final.json").write_text(json.dumps(folds))
        >>> [fold.val for fold in read_folds(Path("splits_final.json"), open_dataset("DATASET"))]
        [('disc2',), ('disc0',)]

    """
    record = None if path.suffix.lower() == ".csv" else read_json(path)
    if not isinstance(record, list):
        return None
    return tuple(
        read_splits(path, dataset.names, fold=fold, excluded=dataset.excluded_names) for fold in range(len(record))
    )


def _check_folds(dataset: Dataset, folds: Sequence[Splits], source: Path) -> None:
    if len(folds) < 2 or not all(part.train and part.val for part in folds):
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
        if fold != "all" and not given.val and _names_empty_val(source, number):
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


def _names_empty_val(path: Path, fold: int | None) -> bool:
    """Return whether a splits file has an empty "val", which differs from a missing "val"."""
    record = None if path.suffix.lower() == ".csv" else read_json(path)
    record = record[fold or 0] if isinstance(record, list) else record
    return isinstance(record, Mapping) and "val" in record


def _names_in(record: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = record.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f'{path}: "{key}" must be a list of case names, not {names!r:.80}')
    return tuple(normalize("NFC", name) for name in names)


def _check_names(path: Path, names: Sequence[str], *splits: tuple[str, ...]) -> None:
    listed = [name for split in splits for name in split]
    unknown = sorted(set(listed) - set(names))
    if unknown:
        raise InputError(
            f"{path} names cases that the dataset does not have: {list_names(unknown)}; take them out, or give another "
            "file of splits (without any, cases are drawn)"
        )
    twice = sorted(name for name, times in Counter(listed).items() if times > 1)
    if twice:
        raise InputError(f"{path} names cases more than once: {list_names(twice)}; each belongs to one split")


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
