"""Cases that belong together by their names, as the visits of one subject do."""

from __future__ import annotations

import re
from dataclasses import replace

from deconvseg.data.dataset import Dataset, list_names
from deconvseg.errors import InputError


def group_cases(dataset: Dataset, pattern: str) -> Dataset:
    """The dataset with the group of each case (`Dataset.groups`) taken from its name by a regular expression.

    The pattern is searched for in the name. Cases that agree in all of its groups, or in all that it matches where it
    has no groups, stay in one fold and in one split: ``"^([0-9]+)"`` takes ``12_left`` and ``12_right`` for one. It
    takes the place of a table's column and of the subjects of BIDS names. Raises `InputError` for a pattern that is no
    regular expression, and for a case whose name it does not match.

    Example:
        >>> from deconvseg.data import group_cases, open_dataset
        >>> dataset = group_cases(open_dataset("DATASET"), "disc[0-3]|disc[4-7]")
        >>> dataset.groups["disc0"], dataset.groups["disc5"]
        ('disc0', 'disc5')

    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"group_by={pattern!r} is no regular expression: {error}") from error
    matches = {case.name: compiled.search(case.name) for case in dataset.cases}
    # No group is given by a match of nothing either, which patterns such as "(x?)" have anywhere.
    if unmatched := [
        name
        for name, match in matches.items()
        if match is None or None in match.groups() or not any(match.groups() or match[0])
    ]:
        raise InputError(
            f"group_by={pattern!r} does not match {len(unmatched)} of {len(matches)} cases: {list_names(unmatched)}; "
            "every case needs a group"
        )
    # A slash is in no name, so that different groups have different texts.
    groups = {name: "/".join(match.groups() or (match[0],)) for name, match in matches.items() if match is not None}
    return replace(dataset, cases=tuple(replace(case, group=groups[case.name]) for case in dataset.cases))
