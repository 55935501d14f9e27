"""Files of one channel each, whose names end in those of the channels: ``CASE-t1c``, ``CASE_adc``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deconvseg.data.colours import is_rgb
from deconvseg.data.dataset import Case, Problem, list_names
from deconvseg.data.file_names import case_stem
from deconvseg.data.listing import ending_of

# Names that say nothing about a channel, and might be those of cases.
_UNTOLD = re.compile(r"(image|channel|grey|gray)?[ _-]?\d*", re.IGNORECASE)
_SEPARATORS = "-_. "


@dataclass(frozen=True)
class NamedChannels:
    """The cases that files make up by the names of channels, the files that are left over, and problems of others."""

    cases: tuple[Case, ...]
    rest: tuple[Path, ...]
    problems: tuple[Problem, ...]


def join_named_channels(
    files: Sequence[Path], names: Sequence[str], may_join: Callable[[Mapping[int, Path]], bool]
) -> NamedChannels:
    """Return the cases of files named ``CASE-NAME`` for all channel ``names``, in their order, ignoring case.

    Incomplete cases become problems. Further files ``CASE-…`` of a complete case are left out, with a warning.
    ``may_join`` decides by the files of a case whether they can be its channels.
    """
    groups = _groups(files, names)
    enough = 2 if len(names) > 2 else len(names)
    joined = {key: group for key, group in groups.items() if len(group) >= enough and may_join(group)}
    cases, problems, used = [], [], set()
    for (name, _), group in joined.items():
        used |= set(group.values())
        missing = [names[number] for number in range(len(names)) if number not in group]
        first = group[min(group)]
        if missing:
            message = f"has no {' and no '.join(missing)} beside it, and its case is left out"
            problems.append(Problem(str(first), message, "error", name))
        else:
            cases.append(Case(name, tuple(group[number] for number in range(len(names))), None))
    complete = {case.name for case in cases}
    others = [path for path in files if path not in used and _belongs(case_stem(path), complete)]
    if others:
        shown = list_names((path.name for path in others), limit=3)
        message = f"holds {len(others)} files that are no channel of the network ({shown}), left out"
        problems.append(Problem(str(others[0].parent), message, "warning"))
    rest = tuple(path for path in files if path not in used and path not in others)
    return NamedChannels(tuple(cases), rest, tuple(problems))


def _groups(files: Sequence[Path], names: Sequence[str]) -> dict[tuple[str, str], dict[int, Path]]:
    """Return the files by (case, image suffix) and the number of their channel."""
    plain = [name.strip().lower() for name in names]
    if len(set(plain)) < max(2, len(plain)) or is_rgb(tuple(names)) or any(map(_UNTOLD.fullmatch, plain)):
        return {}
    groups: dict[tuple[str, str], dict[int, Path]] = defaultdict(dict)
    # The longest name first: "post t1" before "t1".
    order = sorted(range(len(plain)), key=lambda number: -len(plain[number]))
    for path in files:
        stem = case_stem(path)
        number = next((one for one in order if stem.lower().endswith(plain[one])), None)
        case = "" if number is None else stem[: len(stem) - len(plain[number])]
        if number is not None and case[-1:] in _SEPARATORS and (name := case.rstrip(_SEPARATORS)):
            groups[name, ending_of(path)].setdefault(number, path)
    return dict(groups)


def _belongs(stem: str, cases: set[str]) -> bool:
    """Return whether a name is that of a case with a further part, such as ``CASE_flair``."""
    places = [place for place, letter in enumerate(stem) if letter in _SEPARATORS]
    return any(stem[:place] in cases for place in places)
