"""Groups of cases by name, such as the visits of one subject."""

from __future__ import annotations

import re
from dataclasses import replace

from deconvseg.data.dataset import Dataset, list_names
from deconvseg.errors import InputError


def group_cases(dataset: Dataset, pattern: str) -> Dataset:
    """Return the dataset with the group of each case (`Dataset.groups`) taken from its name by a regular expression.

    The pattern is searched in the name. Cases with equal capture groups, or equal matches if the pattern has no
    capture groups, stay in one fold and in one split: ``"^([0-9]+)"`` groups ``12_left`` and ``12_right``. It replaces
    the column of a table and the subjects of BIDS names. Raises `InputError` for an invalid regular expression, and
    for a case whose name does not match.

    Example:
        >>> from deconvseg.data import group_cases, open_dataset
        >>> dataset = group_cases(open_dataset("DATASET"), "disc[0-3]|disc[4-7]")
        >>> dataset.groups["disc0"], dataset.groups["disc5"]
        ('disc0', 'disc5')

    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"group_by={pattern!r} is not a regular expression: {error}") from error
    matches = {case.name: _group(compiled.search(case.name)) for case in dataset.cases}
    if unmatched := [name for name, group in matches.items() if group is None]:
        raise InputError(
            f"group_by={pattern!r} does not match {len(unmatched)} of {len(matches)} cases: {list_names(unmatched)}; "
            "every case needs a group"
        )
    groups = {name: group for name, group in matches.items() if group is not None}
    excluded = tuple(replace(each, group=_group(compiled.search(each.case)) or each.case) for each in dataset.excluded)
    cases = tuple(replace(case, group=groups[case.name]) for case in dataset.cases)
    return replace(dataset, cases=cases, excluded=excluded)


def _group(match: re.Match[str] | None) -> str | None:
    """Return the text of a group, or None if the pattern does not match or matches nothing."""
    # An empty match gives no group either: patterns such as "(x?)" match the empty string everywhere.
    if match is None or None in match.groups() or not any(match.groups() or match[0]):
        return None
    # Names contain no slash, so different groups have different texts.
    return "/".join(match.groups() or (match[0],))
