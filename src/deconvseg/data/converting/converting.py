"""Convert a dataset: what must be known first, then every case, then the files that describe them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from deconvseg.data.converting.case import Converted, Job, Setting, convert_case, name_sources
from deconvseg.data.converting.describing import describe_conversion, report_cases, report_copies, report_labels
from deconvseg.data.converting.labels import choose_labels
from deconvseg.data.converting.parts import Parts, divide
from deconvseg.data.converting.records import MANIFEST, Journal
from deconvseg.data.converting.survey import choose_ending, survey_case
from deconvseg.data.converting.targets import TARGETS, find_target
from deconvseg.data.dataset import Case, Dataset, list_names
from deconvseg.data.formats.registry import is_known_everywhere
from deconvseg.data.recording import name_files
from deconvseg.errors import InputError
from deconvseg.progress import SILENT, Console, choose_console, each, takes_console
from deconvseg.system import hold, map_if_slow, remove_unfinished, usable_cores

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_MOST_WORKERS = 8
_FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")


@dataclass(frozen=True)
class Conversion:
    """The result of `convert`: the folder, and the names of the written cases, of those that were there already.

    ``training`` and ``testing`` count the cases of a complete conversion. ``problems`` has a line ``CASE: TEXT`` for
    each case that could not be converted; with any, the conversion is incomplete and has no manifest.
    """

    folder: Path
    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    training: int = 0
    testing: int = 0
    problems: tuple[str, ...] = field(default=())

    @property
    def manifest(self) -> Path:
        """The file that records sources, changes and hashes."""
        return self.folder / MANIFEST

    def to_json(self) -> dict[str, Any]:
        """Return plain types."""
        return {
            "folder": str(self.folder),
            "written": list(self.written),
            "kept": list(self.kept),
            "training": self.training,
            "testing": self.testing,
            "problems": list(self.problems),
        }


def list_targets() -> dict[str, str]:
    """Return the layouts that `convert` writes: their titles by name.

    Example:
        >>> from deconvseg.data import list_targets
        >>> list_targets()["nnunet"]
        'nnU-Net'

    """
    return {name: target.title for name, target in TARGETS.items()}


@takes_console
def convert(
    dataset: Dataset,
    output: str | PathLike[str],
    *,
    to: str = "nnunet",
    number: int | None = None,
    name: str | None = None,
    splits: str | PathLike[str] | None = None,
    link: bool = False,
    workers: int | None = None,
    console: Console | bool | None = SILENT,
) -> Conversion:
    """Write a dataset in the layout of another tool (`list_targets`), with the manifest ``conversion.json``.

    ``output`` is the new folder if it is named as the layout names datasets (``Dataset011_Discs``, ``Task01_Discs``);
    otherwise the folder is made in it from ``number`` and ``name``. Files that fit are copied, or hard-linked with
    ``link``; others are written losslessly, with the affine of the image. Labels get consecutive values. Test cases
    are those of the file ``splits``, of the dataset's own file, or declared by its layout; cases without a mask are
    test cases too. ``workers`` processes convert cases (0: only this one; by default one per core, at most 8).

    An interrupted conversion is continued by the same call: cases whose sources and files are unchanged are kept.
    Raises `InputError` for a dataset that the layout cannot hold, and for a folder with other content.

    Example:
        >>> from deconvseg.data import convert, open_dataset
        >>> done = convert(open_dataset("DATASET"), "Dataset011_Discs", to="nnunet")
        >>> done.training, done.testing
        (6, 2)
        >>> open_dataset("Dataset011_Discs").layout
        'nnunet'

    """
    target = find_target(to)
    folder = target.place(Path(output), dataset, number, name)
    title = target.short_name(folder, name)
    identity = {"to": to, "name": title, "dataset": dataset.root.resolve().name, "layout": dataset.layout}
    console = choose_console(console)
    parts = divide(dataset, None if splits is None else Path(splits))
    chosen = dataset.select((*parts.training, *parts.testing))
    report_cases(dataset, parts, console)
    _check_cases(Journal(folder, identity), dataset)
    team = min(_MOST_WORKERS, usable_cores()) if workers is None else workers
    team = team if is_known_everywhere() else 0
    bare = replace(chosen, cases=(), problems=(), excluded=())
    look = partial(survey_case, bare)
    surveys = list(_map(look, chosen.cases, team, "reading the headers", console, _name_case))
    if unread := [f"{survey.case}: {survey.problem}" for survey in surveys if survey.problem]:
        return Conversion(folder, problems=tuple(unread))
    labels = choose_labels(chosen, {s.case: s.values for s in surveys if s.values is not None})
    dims, ending = choose_ending(surveys, chosen)
    target.check(chosen, dims, labels)
    report_labels(dataset, labels, console)
    setting = Setting(bare, folder, to, ending, labels, link)
    with hold(folder):
        journal = Journal(folder, identity)
        return _write(setting, journal, chosen, parts, title, team, console)


def _write(
    setting: Setting, journal: Journal, dataset: Dataset, parts: Parts, title: str, workers: int, console: Console
) -> Conversion:
    """Write the cases, and if none has a problem, what describes them."""
    folder, training = setting.folder, set(parts.training)
    for place in (folder, *(folder / name for name in _FOLDERS)):
        remove_unfinished(place)
    journal.start()
    if gone := [name for name in journal.cases if name not in set(dataset.names)]:
        journal.reopen()
        journal.drop(gone)
    files = {path: name for name, path in name_files(dataset).items()}
    jobs = [
        Job(
            case=case,
            part="Tr" if case.name in training else "Ts",
            group=dataset.groups[case.name],
            names=name_sources(case, files),
            known=journal.cases.get(case.name),
        )
        for case in dataset.cases
    ]
    done: list[Converted] = []
    convert_one, text = partial(convert_case, setting), f"converting to {setting.to}"
    for converted in _map(convert_one, jobs, workers, text, console, _name_job):
        done.append(converted)
        if converted.record is not None and not converted.kept:
            if journal.finished:
                journal.reopen()
            journal.add(converted.record)
    if setting.link:
        report_copies((one.record for one in done if one.record is not None and not one.kept), console)
    problems = tuple(f"{one.case}: {one.problem}" for one in done if one.problem)
    result = Conversion(
        folder,
        written=tuple(one.case for one in done if one.record is not None and not one.kept),
        kept=tuple(one.case for one in done if one.kept),
        training=len(parts.training),
        testing=len(parts.testing),
        problems=problems,
    )
    if problems:
        return replace(result, training=0, testing=0)
    if journal.finished:
        journal.close()
    else:
        describe_conversion(setting, journal, dataset, parts, title)
    return result


def _map(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    workers: int,
    text: str,
    console: Console,
    name: Callable[[_Item], str],
) -> Iterator[_Result]:
    """Yield the results of all items, while the console shows the progress; other processes import the functions."""
    for _, result in zip(each(items, text, console, name), map_if_slow(function, items, workers, name), strict=True):
        yield result


def _name_case(case: Case) -> str:
    return case.name


def _name_job(job: Job) -> str:
    return job.case.name


def _check_cases(journal: Journal, dataset: Dataset) -> None:
    """Raise `InputError` for a folder with cases that the dataset does not have and does not exclude."""
    others = sorted(journal.cases.keys() - {*dataset.names, *dataset.excluded_names})
    if others:
        raise InputError(
            f"{journal.folder} holds cases that {dataset.root} does not have ({list_names(others, limit=3)}); give "
            "another folder"
        )
