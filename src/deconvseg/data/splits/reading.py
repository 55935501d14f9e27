"""Read the splits of a file: training, validation and test cases, or nnU-Net's list of folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from unicodedata import normalize

from deconvseg.data.dataset import Dataset, list_names
from deconvseg.data.json_files import read_json
from deconvseg.data.layouts.csv_layout import read_csv_splits
from deconvseg.errors import InputError, check_choice


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
    test: Collection[str] = (),
) -> tuple[str, ...] | None:
    """Return the cases of ``names`` in a split of the file ``splits``, or of ``own`` if that is not given.

    Without a file, the split "test" has the cases ``test``, such as those that a dataset declares
    (`Dataset.declared_test`). Returns None if neither a split nor a file is selected. Names in ``excluded`` may be in
    the file. Raises `InputError` for a file without a split, a split without a file, an unknown split, and a split
    without cases.

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
    check_choice(split, ("train", "val", "test"), "`split`")
    source = own if splits is None else splits
    declared = tuple(name for name in names if name in test)
    if source is None and split == "test" and declared:
        return declared
    if source is None:
        known = "; without one, only the test cases are known" if declared else ""
        raise InputError(f"the split {split!r} needs a splits file: give one as `splits`{known}")
    chosen: tuple[str, ...] = getattr(read_splits(source, names, fold=fold, excluded=excluded), split)
    if not chosen:
        raise InputError(f"{source}: the split {split!r} has no cases")
    return chosen


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


def has_empty_val(path: Path, fold: int | None) -> bool:
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
