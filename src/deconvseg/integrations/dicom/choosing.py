"""The cases of a folder of studies: which series are predicted, by UID, description, modality or rules of channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from deconvseg.data import Case, Problem, SeriesChoice, list_names
from deconvseg.errors import InputError
from deconvseg.integrations.dicom.instances import read_attributes, read_instance
from deconvseg.integrations.dicom.series import FoundSeries, Series, describe_skipped, find_series, list_series


class _Chosen(NamedTuple):
    """The series of a case, one per channel, and the folder that holds all series of its study."""

    series: tuple[Series, ...]
    study: Path


def open_studies(folder: Path, choice: SeriesChoice) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """Return the cases of a folder of one or many studies, and what was skipped or refused.

    Each study is a case, of one series or of one per channel; with ``choice.count`` None each series is a case. A case
    is named after the folder of its study, and where that is not unique, after that of its series or by its UID. Raises
    :class:`~deconvseg.errors.InputError` for a folder without images, for a choice that picks nothing, and for the
    problem of the only study.
    """
    found = find_series(folder)
    if not found.series:
        raise InputError(f"{folder} holds no series of images{describe_skipped(found.skipped)}")
    _check_choice(folder, found, choice)
    chosen: list[_Chosen] = []
    problems = _tell_skipped(folder, found)
    studies: dict[str, list[Series]] = defaultdict(list)
    for series in found.series:
        studies[series.study_uid].append(series)
    for members in studies.values():
        study = _shared_folder(members)
        candidates = [each for each in members if not choice.series or picks(choice.series, each)]
        if not candidates:
            continue
        try:
            picked = _choose(candidates, choice)
            for each in {series for case in picked for series in case}:
                check_together(each)
            chosen += [_Chosen(case, study) for case in picked]
            problems += [problem for case in picked for problem in _tell_references(study, case)]
        except InputError as error:
            if len(studies) == 1:
                raise InputError(f"{study} {error}") from error
            problems.append(Problem(str(study), str(error), "error"))
            continue
        problems += _tell_rest(study, candidates, chosen, choice)
    names = _names(folder, chosen)
    cases = [
        Case(name, tuple(each.source for each in case.series), None) for name, case in zip(names, chosen, strict=True)
    ]
    if not cases:
        raise InputError("; ".join(f"{problem.file} {problem.message}" for problem in problems))
    return tuple(cases), tuple(problems)


def choose_series(folder: Path, names: Sequence[str]) -> Path:
    """Return the path of the only series in a folder that ``names`` pick; `InputError` if it is not one."""
    found = find_series(folder)
    picked = [each for each in found.series if picks(names, each)]
    if len(picked) == 1:
        check_together(picked[0])
        return picked[0].source
    what = f"{len(picked)} series" if picked else "no series"
    raise InputError(
        f"{folder}: `series`: {' and '.join(map(repr, names))} picks {what}, where one is expected; it holds "
        f"{list_series(picked or found.series)}{describe_skipped(found.skipped)}"
    )


def picks(texts: Iterable[str], series: Series) -> bool:
    """Return whether one of the texts is the UID of a series, or matches its description or modality."""
    shown = (series.description.casefold(), series.modality.casefold())
    return any(text == series.uid or any(_matches(value, text.strip().casefold()) for value in shown) for text in texts)


def follows(rule: Mapping[str, str], series: Series) -> bool:
    """Return whether the attributes of a series' first file match the patterns of a rule."""
    attributes = read_attributes(series.source, tuple(rule))
    return all(_matches(attributes[name].casefold(), pattern.strip().casefold()) for name, pattern in rule.items())


def _matches(value: str, pattern: str) -> bool:
    # Descriptions such as "T1 [3mm]" are patterns of something else.
    return value == pattern or fnmatchcase(value, pattern)


def _choose(candidates: Sequence[Series], choice: SeriesChoice) -> list[tuple[Series, ...]]:
    """Return the series of each case of a study; `InputError`, without the study's name, if they are not clear."""
    if choice.count is None:
        return [(each,) for each in candidates]
    # A picture in colour is one series, whatever its channels are called.
    if choice.count == len(choice.channels) and any(choice.channels.values()):
        return [tuple(_of_channel(name, rule, candidates) for name, rule in choice.channels.items())]
    volumes = [each for each in candidates if not _is_localiser(each)] or list(candidates)
    if len(volumes) == 1:
        return [(volumes[0],)]
    if choice.count > 1:
        names = ", ".join(choice.channels)
        raise InputError(
            f"holds {len(volumes)} series ({list_series(volumes)}), and nothing says which are the channels {names}; "
            "give `channel` for each (NAME=UID), or rules in the plan"
        )
    raise InputError(
        f"holds {len(volumes)} series, where the network takes one: {list_series(volumes)}; choose one with `series`"
    )


def _of_channel(name: str, rule: Mapping[str, str], candidates: Sequence[Series]) -> Series:
    if not rule:
        raise InputError(f"has no rule for the channel {name}, as the others have; give `channel` for it (NAME=UID)")
    found = [each for each in candidates if follows(rule, each)]
    shown = " and ".join(f"{key} {pattern!r}" for key, pattern in rule.items())
    if not found:
        raise InputError(f"has no series for the channel {name} ({shown}); it holds {list_series(candidates)}")
    if len(found) > 1:
        raise InputError(
            f"has {len(found)} series for the channel {name} ({shown}): {list_series(found)}; choose one with "
            "`channel` (NAME=UID)"
        )
    return found[0]


def check_together(series: Series) -> None:
    """Refuse a series whose files are in several folders, because a file stands for the series in its folder.

    Copies of a file are no part of a series: two files that still have one UID differ.
    """
    known: dict[str, Path] = {}
    for each in series.instances:
        other = known.setdefault(each.uid, each.path)
        if each.uid and other != each.path:
            raise InputError(
                f"has the {series} with two different files of one image ({each.uid}): {other} and {each.path}; remove "
                "the wrong one"
            )
    folders = sorted({str(file.parent) for file in series.files})
    if len(folders) > 1:
        raise InputError(
            f"has the {series} in {len(folders)} folders ({list_names(folders, 3)}); move its files into one"
        )


def _check_choice(folder: Path, found: FoundSeries, choice: SeriesChoice) -> None:
    for text in choice.series:
        if not any(picks([text], each) for each in found.series):
            raise InputError(f"{folder}: `series`: nothing is {text!r} here; it holds {list_series(found.series)}")


def _tell_skipped(folder: Path, found: FoundSeries) -> list[Problem]:
    """Return a problem for each reason why files were skipped: an error for damaged files, which a series may lack."""
    by_reason: dict[str, list[Path]] = defaultdict(list)
    damaged = {each.reason for each in found.skipped if each.damaged}
    for each in found.skipped:
        by_reason[each.reason].append(each.path)
    problems = []
    for reason, paths in by_reason.items():
        names = list_names((path.relative_to(folder).as_posix() for path in paths), limit=3)
        message = f"holds {len(paths)} DICOM {'file' if len(paths) == 1 else 'files'} skipped as {reason} ({names})"
        problems.append(Problem(str(folder), message, "error" if reason in damaged else "warning"))
    return problems


def _tell_rest(
    study: Path, candidates: Sequence[Series], chosen: Sequence[_Chosen], choice: SeriesChoice
) -> list[Problem]:
    """Return a warning that names the series of a study that nothing asks for, where the user chose none."""
    used = {each for case in chosen for each in case.series}
    rest = [each for each in candidates if each not in used]
    if not rest or choice.series:
        return []
    message = f"holds {len(rest)} more series, left out: {list_series(rest)}"
    return [Problem(str(study), message, "warning")]


def _tell_references(study: Path, channels: Sequence[Series]) -> list[Problem]:
    """Return a warning if the channels of a case have several frames of reference."""
    if len({each.frame_of_reference for each in channels}) < 2:
        return []
    message = f"has channels in several frames of reference ({list_series(channels)}); were they registered?"
    return [Problem(str(study), message, "warning")]


def _is_localiser(series: Series) -> bool:
    return read_instance(series.source).is_localiser


def _shared_folder(members: Sequence[Series]) -> Path:
    shared = members[0].folder
    while not all(each.folder.is_relative_to(shared) for each in members):
        shared = shared.parent
    return shared


def _names(root: Path, chosen: Sequence[_Chosen]) -> list[str]:
    """Return a unique name for each case: its study's folder, else its first series' folder, else with the UID."""

    def name(folder: Path) -> str:
        parts = folder.relative_to(root).parts
        return "_".join(parts) if parts else root.resolve().name or "study"

    by_study = [name(each.study) for each in chosen]
    by_series = [name(each.series[0].folder) for each in chosen]
    for names in (by_study, by_series):
        if len(set(names)) == len(names):
            return names
    return [f"{name}_{each.series[0].uid}" for name, each in zip(by_study, chosen, strict=True)]
