"""Folds that are drawn from a dataset: by training and by cross-validation alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from deconvseg.data.dataset import Dataset, Exclusion
from deconvseg.data.splits.folds import DEFAULT_FOLDS, make_folds, make_stratified_folds
from deconvseg.errors import InputError

Pairs = list[tuple[tuple[str, ...], tuple[str, ...]]]
Strata = Callable[[Dataset], Mapping[str, float | str]]


def draw_folds(
    dataset: Dataset,
    names: Sequence[str],
    excluded: Sequence[Exclusion],
    *,
    folds: int | None,
    seed: int,
    strata: Strata | None,
) -> Pairs:
    """Return the (train, val) pairs of the cases ``names``, balanced by ``strata`` if that is given.

    The ``excluded`` cases are drawn with the others and then removed, so they do not move other cases to another fold;
    but if a fold would have no case left to validate on, or an excluded mask cannot be read, the cases are divided
    without them. With ``folds`` None there are 5, or as many as there are cases (groups).
    """
    if excluded:
        kept, scans = set(names), [each.scan for each in excluded if each.scan is not None]
        whole = replace(dataset, cases=(*dataset.cases, *scans))
        groups = dataset.groups | {each.case: each.group or each.case for each in excluded}
        try:
            pairs = _draw(whole, (*names, *(each.case for each in excluded)), groups, folds, seed, strata)
        except InputError:
            pairs = []
        left = [tuple(tuple(name for name in part if name in kept) for part in pair) for pair in pairs]
        if left and all(part for pair in left for part in pair):
            return [(first, second) for first, second in left]
    return _draw(dataset, names, dataset.groups, folds, seed, strata)


def _draw(
    dataset: Dataset,
    names: Sequence[str],
    groups: Mapping[str, str],
    folds: int | None,
    seed: int,
    strata: Strata | None,
) -> Pairs:
    units = len({groups.get(name, name) for name in names})
    number = min(DEFAULT_FOLDS, units) if folds is None else folds
    # Fewer than two cases, or groups, cannot be divided, which it says.
    if strata is None or units < 2:
        return make_folds(names, number, seed, groups=groups)
    return make_stratified_folds(strata(dataset.select(names)), number, seed, groups=groups)
