"""Distribution of cases to cross-validation folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from deconvseg.errors import InputError

DEFAULT_FOLDS = 5


def make_folds(
    names: Sequence[str], folds: int = DEFAULT_FOLDS, seed: int = 0, *, groups: Mapping[str, str] | None = None
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Split cases into (train, val) pairs for cross-validation, which depend only on the set of names and the seed.

    Every case is in exactly one validation set, and the sizes of the sets differ by at most one. With fewer cases than
    ``folds`` each fold leaves one case out. ``groups`` maps case names to groups (such as subjects): a group is kept
    in one validation set; the groups are assigned from largest to smallest, each to the smallest set. Raises
    `InputError` for fewer than two cases or groups.

    Example:
        >>> from deconvseg.data import make_folds
        >>> names = [f"case_{number}" for number in range(10)]
        >>> [len(val) for train, val in make_folds(names, folds=5)]
        [2, 2, 2, 2, 2]

    """
    if len(names) < 2:
        raise InputError(f"{len(names)} case(s) cannot be split into folds; add cases, or use all (`fold='all'`)")
    members = _members(names, groups)
    if len(members) < len(names):
        return _fold_groups(members, folds, seed)
    ordered = sorted(names)
    shuffled = np.random.default_rng(seed).permutation(len(ordered))
    pairs = []
    for chosen in np.array_split(shuffled, min(folds, len(ordered))):
        held_out = {ordered[index] for index in chosen}
        pairs.append(
            (
                tuple(name for name in ordered if name not in held_out),
                tuple(name for name in ordered if name in held_out),
            )
        )
    return pairs


def make_stratified_folds(
    strata: Mapping[str, float | str],
    folds: int = DEFAULT_FOLDS,
    seed: int = 0,
    *,
    groups: Mapping[str, str] | None = None,
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Split cases into (train, val) pairs whose validation sets are balanced in a number or category of the cases.

    ``strata`` gives the number or category by case name. Cases are sorted by number, and each fold gets one of every
    ``folds`` successive cases; categories, and numbers with at most as many different values as folds, are assigned in
    turn. The result depends only on the cases and the seed. Every case is in exactly one validation set, and the sizes
    of the sets differ by at most one. Cases of one of the ``groups`` stay together; their mean or most frequent value
    represents the group. Raises `InputError` for fewer cases (groups) than folds, and for fewer than two folds.

    Example:
        >>> from deconvseg.data import make_stratified_folds
        >>> volumes = {f"case_{number}": number**2 for number in range(9)}
        >>> folds = make_stratified_folds(volumes, folds=3)
        >>> all(len(val) == 3 for train, val in folds)
        True

    """
    members = _members(list(strata), groups)
    if len(members) < len(strata):
        check_number(folds, len(members), "groups of cases")
        of_groups = {group: _common_stratum([strata[name] for name in names]) for group, names in members.items()}
        pairs = make_stratified_folds(of_groups, folds, seed)
        return [_expand(members, *pair) for pair in pairs]
    check_number(folds, len(strata))
    rng = np.random.default_rng(seed)
    names = sorted(strata)
    shuffled = [names[index] for index in rng.permutation(len(names))]
    # Sorting is stable, so cases of equal value stay shuffled.
    ordered = sorted(shuffled, key=lambda name: _rank(strata[name]))
    continuous = len(set(strata.values())) > folds and not any(isinstance(value, str) for value in strata.values())
    order = rng.permutation(folds)
    fold_of: dict[str, int] = {}
    for place, name in enumerate(ordered):
        if continuous and place % folds == 0:
            order = rng.permutation(folds)
        fold_of[name] = int(order[place % folds])
    return [
        (tuple(n for n in names if fold_of[n] != fold), tuple(n for n in names if fold_of[n] == fold))
        for fold in range(folds)
    ]


def _members(names: Sequence[str], groups: Mapping[str, str] | None) -> dict[str, list[str]]:
    """Return the names of each group, both in order."""
    members: dict[str, list[str]] = {}
    for name in sorted(names):
        members.setdefault(name if groups is None else groups.get(name, name), []).append(name)
    return dict(sorted(members.items()))


def _fold_groups(
    members: Mapping[str, Sequence[str]], folds: int, seed: int
) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    if len(members) < 2:
        raise InputError(
            f"all cases are of the group {next(iter(members))!r}, which cannot be split; add others, or use all cases "
            "(`fold='all'`)"
        )
    groups = list(members)
    shuffled = [groups[index] for index in np.random.default_rng(seed).permutation(len(groups))]
    held_out: list[list[str]] = [[] for _ in range(min(folds, len(groups)))]
    sizes = [0] * len(held_out)
    for group in sorted(shuffled, key=lambda group: -len(members[group])):
        smallest = sizes.index(min(sizes))
        held_out[smallest].append(group)
        sizes[smallest] += len(members[group])
    fold_of = {group: fold for fold, chosen in enumerate(held_out) for group in chosen}
    return [
        _expand(members, [group for group in groups if fold_of[group] != fold], chosen)
        for fold, chosen in enumerate(held_out)
    ]


def _expand(
    members: Mapping[str, Sequence[str]], train: Sequence[str], val: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the cases of the training groups and of the validation groups."""
    first, second = (sorted(name for group in part for name in members[group]) for part in (train, val))
    return tuple(first), tuple(second)


def _common_stratum(values: Sequence[float | str]) -> float | str:
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) == len(values):
        return float(np.mean(numbers))
    times = Counter(map(str, values))
    return max(sorted(times), key=times.__getitem__)


def _rank(value: float | str) -> tuple[float, str]:
    return (0.0, value) if isinstance(value, str) else (value, "")


def check_number(folds: int, cases: int, what: str = "cases") -> None:
    """Raise an `InputError` for fewer than two folds, and for more folds than cases (or other units ``what``)."""
    if not 2 <= folds <= cases:
        advice = f"ask for 2 to {cases} folds" if cases > 1 else "add cases"
        raise InputError(f"{cases} {what} cannot make {folds} folds, each of which holds out one at least: {advice}")
