"""The folds of a dataset, which all rows of a table share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from deconvseg.data import Dataset, Splits, make_stratified_folds, read_json, resolve_folds, resolve_splits
from deconvseg.errors import InputError
from deconvseg.experiments.strata import measure_strata
from deconvseg.progress import Console
from deconvseg.system import write_text
from deconvseg.text import dump_json

_Strata = Callable[[Dataset], Mapping[str, float | str]]


def divide(
    data: Dataset, *, folds: int, seed: int, most: int | None, tested: bool, share: float | None, console: Console
) -> tuple[Splits, ...]:
    """Return the folds of a dataset; with ``most`` of so many cases, and half as many test cases.

    The folds are those that a cross-validation of the dataset makes. Raises :class:`~deconvseg.errors.InputError` if
    test cases are needed (``tested``), the dataset declares none, and no ``share`` of its cases is to be drawn.
    """
    measure = partial(measure_strata, stratify=None, table=None, root=data.root, console=console)
    alike = _divide_alike(data, seed)
    test = alike[0].test
    if tested and not test and share is not None:
        every = sorted({*alike[0].train, *alike[0].val})
        test = tuple(_choose(data, every, max(1, round(share * len(every))), 0))
        data = data.select([name for name in every if name not in test])
        alike = _divide_alike(data, seed)
    if tested and not test:
        raise InputError(
            f"{data.root}: declares no test cases, which this table is measured on; list them in its splits.json "
            '({"test": [...]})'
        )
    names = sorted({*alike[0].train, *alike[0].val})
    if folds == 1:
        chosen = names if most is None else _choose(data, names, most, seed)
        held = test if most is None or not test else _choose(data, test, max(1, most // 2), seed)
        return (_hold_out(data, chosen, held if tested else (), seed, measure),)
    # A splits file that lists other folds than those asked for is divided anew.
    if most is None or most >= len(names):
        parts = alike if len(alike) == folds else ()
        try:
            parts = resolve_folds(data, None, folds=folds, strata=measure, seed=seed)
        except InputError:
            if not parts:
                raise
        return tuple(Splits(part.train, part.val, test if tested else ()) for part in parts)
    chosen = _choose(data, names, most, seed)
    pairs = make_stratified_folds(measure(data.select(chosen)), folds, seed, groups=data.groups)
    held = tuple(_choose(data, test, max(1, most // 2), seed)) if tested else ()
    return tuple(Splits(train, val, held) for train, val in pairs)


def _hold_out(data: Dataset, names: Sequence[str], test: Sequence[str], seed: int, measure: _Strata) -> Splits:
    """Return the only fold: the declared validation cases, or a fifth of the cases as a training holds them out."""
    declared = resolve_splits(data, None, fold=0, seed=seed, strata=measure)
    train, val = (tuple(name for name in part if name in set(names)) for part in (declared.train, declared.val))
    if not (train and val):
        train, val = make_stratified_folds(measure(data.select(names)), 2, seed, groups=data.groups)[0]
    return Splits(train, val, tuple(test))


def _divide_alike(data: Dataset, seed: int) -> tuple[Splits, ...]:
    """Return the declared folds of a dataset, or folds of all cases, without reading masks; two of a few cases."""
    divide_all = partial(resolve_folds, data, None, strata=lambda part: dict.fromkeys(part.names, "all"), seed=seed)
    try:
        return divide_all()
    except InputError:
        return divide_all(folds=2)


def _choose(data: Dataset, names: Sequence[str], most: int, seed: int) -> list[str]:
    """Return some of the cases, drawn by the seed."""
    ordered = sorted(names)
    drawn = np.random.default_rng(seed).permutation(len(ordered))[:most]
    return sorted(ordered[place] for place in drawn)


def write_folds(path: Path, parts: tuple[Splits, ...]) -> None:
    """Write the folds as nnU-Net's list, each with its test cases."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, dump_json([vars(part) for part in parts]) + "\n")


def read_folds_of(path: Path) -> tuple[Splits, ...]:
    """Return the folds that :func:`write_folds` wrote."""
    return tuple(Splits(*(tuple(entry[key]) for key in ("train", "val", "test"))) for entry in read_json(path))
