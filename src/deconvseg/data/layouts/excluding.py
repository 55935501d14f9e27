"""Excluded cases: by a column of a table, a file in the folder, or by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from unicodedata import normalize

from deconvseg.data.dataset import Dataset, Exclusion, Problem, list_names
from deconvseg.data.delimited import read_text
from deconvseg.errors import InputError

EXCLUDE_FILE = "exclude.txt"

_YES = ("true", "1", "yes", "y", "x")
_NO = ("", "false", "0", "no", "n")


def is_marked(text: str, where: str) -> bool:
    """Return whether a cell of the column ``exclude`` excludes its case; `InputError` for other texts."""
    if text.lower() not in (*_YES, *_NO):
        raise InputError(f"{where}: exclude is {text!r}; write {', '.join(_YES)}, or {', '.join(_NO[1:])} or nothing")
    return text.lower() in _YES


def read_exclusions(path: str | PathLike[str]) -> list[str]:
    """Return the lines ``NAME`` or ``NAME=REASON`` of a file, without empty lines and comments (``#``).

    Example:
        >>> from pathlib import Path
        >>> from deconvseg.data import read_exclusions
        >>> _ = Path("exclude.txt").write_text("# blurred\\ncase_012=blurred\\n")
        >>> read_exclusions("exclude.txt")
        ['case_012=blurred']

    """
    lines = (line.strip() for line in read_text(Path(path)).splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def exclude_cases(dataset: Dataset, asked: Sequence[str]) -> Dataset:
    """Return the dataset without the cases excluded by its table, by ``exclude.txt`` in its folder, or by ``asked``.

    Each exclusion is a name or a pattern with ``*`` and ``?``, optionally with a reason: ``case_012=blurred``. Raises
    `InputError` for an exclusion that matches no case (a warning if it is from a file), and if no case remains.
    """
    known = {exclusion.case: exclusion for exclusion in dataset.excluded}
    problems = list(dataset.problems)
    folder = dataset.root if dataset.root.is_dir() else dataset.root.parent
    listed = folder / EXCLUDE_FILE
    for text in read_exclusions(listed) if dataset.root.is_dir() and listed.is_file() else ():
        found = match_exclusions(dataset.names, text)
        known |= {exclusion.case: exclusion for exclusion in found if exclusion.case not in known}
        if not found:
            problems.append(Problem(str(listed), f"names {text!r}, which is not a case", "warning"))
    for text in asked:
        found = match_exclusions(dataset.names, text)
        if not found:
            raise InputError(f"`exclude`: {dataset.root} has no case {text!r}{_suggest(dataset, text)}")
        known |= {exclusion.case: exclusion for exclusion in found if exclusion.case not in known}
    if not known:
        return replace(dataset, problems=tuple(problems))
    cases = tuple(case for case in dataset.cases if case.name not in known)
    if not cases:
        raise InputError(f"{dataset.root}: all {len(dataset.cases)} cases are excluded; exclude fewer")
    groups = dataset.groups
    return replace(
        dataset,
        cases=cases,
        excluded=tuple(
            replace(known[case.name], group=groups[case.name], labelled=case.label is not None, scan=case)
            for case in dataset.cases
            if case.name in known
        ),
        # Problems of excluded cases are irrelevant.
        problems=tuple(problem for problem in problems if problem.case is None or problem.case not in known),
    )


def match_exclusions(names: Sequence[str], text: str) -> list[Exclusion]:
    """Return the exclusions of a text: a case name, or a name or pattern with an optional reason.

    Example:
        >>> from deconvseg.data import match_exclusions
        >>> [str(found) for found in match_exclusions(["scan_1", "scan_2", "test"], "scan_*=blurred")]
        ['scan_1 (blurred)', 'scan_2 (blurred)']

    """
    whole = normalize("NFC", text.strip())
    if whole in names:
        return [Exclusion(whole)]
    pattern, _, reason = (part.strip() for part in whole.partition("="))
    literal = pattern.replace("[", "[[]")
    return [Exclusion(name, reason) for name in names if name == pattern or fnmatch.fnmatchcase(name, literal)]


def _suggest(dataset: Dataset, text: str) -> str:
    near = get_close_matches(text.partition("=")[0].strip(), dataset.names, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; the cases are {list_names(dataset.names)}"
