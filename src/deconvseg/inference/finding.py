"""The cases of a path to predict."""

import re
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import (
    Case,
    Dataset,
    Image,
    Problem,
    SeriesChoice,
    has_own_grids,
    has_patterns,
    is_dataset,
    is_images_folder,
    is_rgb,
    list_names,
    match_exclusions,
    open_dataset,
    open_images,
    read_header,
    read_image,
    select_split,
)
from deconvseg.errors import InputError
from deconvseg.inference.records import Prediction
from deconvseg.planning import Plan, channel_order
from deconvseg.progress import SILENT, Console
from deconvseg.runs import Run, name_seen, patterns_of_run
from deconvseg.system import available_memory
from deconvseg.text import number_of

_UID = re.compile(r"[0-9.]{5,64}")


def find_cases(
    images: Path,
    channels: Sequence[str],
    memory: int | None,
    *,
    reading: Mapping[str, Any] | None = None,
    warn: Callable[[str], None],
) -> tuple[Sequence[Case], Sequence[Problem], Callable[[Case], Image]]:
    """Return the cases to predict, the left-out files, and the function that loads a case.

    ``reading`` are the arguments ``image``, ``mask`` and ``exclude`` of `open_dataset`.
    """
    cases, problems, load, _, _ = _find(images, channels, memory, reading or {}, {}, warn)
    return cases, problems, load


def _find(
    images: Path,
    channels: Sequence[str],
    memory: int | None,
    reading: Mapping[str, Any],
    rules: Mapping[str, Mapping[str, str]],
    warn: Callable[[str], None],
) -> tuple[Sequence[Case], Sequence[Problem], Callable[[Case], Image], Sequence[str], Dataset | None]:
    """Return what `find_cases` does, the names of the cases that are excluded, and the dataset if the path is one.

    ``rules`` pick the DICOM series of each channel.
    """
    order = tuple(range(len(channels)))
    excluded: Sequence[str] = ()
    given: Dataset | None = None
    dataset: Dataset | None
    if reading.get("image") or is_dataset(images):
        dataset = given = open_dataset(images, **reading)
        excluded = dataset.excluded_names
        cases, problems, channels_last = dataset.cases, dataset.left_out, dataset.channels_last
    else:
        folder = images if images.is_dir() else images.parent
        # A colour picture is one file, and a grey one is expanded: numbered pictures are cases, except in nnU-Net.
        in_colour = is_rgb(channels) and not is_images_folder(folder)
        count = 1 if in_colour else len(channels)
        choice = SeriesChoice(tuple(reading.get("series") or ()), count, rules)
        cases, problems = open_images(images, channels=count, channel_names=channels, choice=choice)
        cases, excluded = _leave_out(images, cases, reading.get("exclude") or ())
        channels_last = len(channels) > 1
        dataset = _dataset_around(images) if any(len(case.images) > 1 for case in cases) else None
    if dataset is not None and not dataset.guessed_channels and len(channels) == len(dataset.channel_names):
        order = _order_of_channels(dataset.channel_names, channels, dataset.root, warn)

    def load(case: Case) -> Image:
        room = available_memory() if memory is None else memory
        files = [case.images[place] for place in order] if len(case.images) == len(order) else case.images
        align = warn if has_own_grids(case.images[0]) else None
        image = read_image(files, channels_last=channels_last, memory=room, align=align)
        for file in files:
            for note in read_header(file).notes:
                warn(f"{file} {note}")
        if len(files) == len(order) or order == tuple(range(image.channels)) or image.channels != len(order):
            return image
        return Image(image.pixels[list(order)], image.geometry)

    return cases, problems, load, excluded, given


def _leave_out(images: Path, cases: Sequence[Case], exclude: Sequence[str]) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Return the cases of plain images except the excluded ones, and the names of the excluded cases."""
    names = [case.name for case in cases]
    excluded: set[str] = set()
    for text in exclude:
        found = match_exclusions(names, text)
        if not found:
            raise InputError(f"`exclude`: {images} has no case {text!r}; its cases are {list_names(names)}")
        excluded |= {exclusion.case for exclusion in found}
    kept = tuple(case for case in cases if case.name not in excluded)
    if not kept:
        raise InputError(f"`exclude` leaves no case of {images}; exclude fewer")
    return kept, tuple(sorted(excluded))


def _reading(
    images: Path,
    image: Sequence[str] | None,
    mask: Sequence[str] | None,
    exclude: Sequence[str] | None,
    series: Sequence[str] | None,
    runs: Sequence[Run],
    console: Console,
) -> dict[str, Any]:
    """The requested way to read a path, else that of the first run's dataset if the names of the files match it."""
    if image is None and mask is not None:
        raise InputError("`mask` without `image`: give a pattern for the images too, such as '*.png'")
    reading: dict[str, Any] = {"image": image, "mask": mask}
    if image is None and runs and (found := patterns_of_run(runs[0], images, masks=False)):
        reading = found
        console.say(f"{images}: its images are found by the pattern of the run, {', '.join(found['image'])}")
    elif mask is not None and images.is_dir() and not has_patterns(images, mask, "mask"):
        # Prediction needs no masks: the pattern only excludes files that are not images.
        reading["mask"] = None
    return {**reading, "exclude": exclude, "series": series}


def _rules(plan: Plan, given: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """Return what picks the DICOM series of each channel: the given texts ``NAME=UID``, else the plan's rules."""
    rules: dict[str, Mapping[str, str]] = {channel.name: channel.dicom for channel in plan.channels}
    for text in given:
        name, equals, value = text.partition("=")
        known = next((own for own in rules if own.strip().casefold() == name.strip().casefold()), None)
        if not equals or not value or known is None:
            raise InputError(f"`channel={text!r}`: give NAME=UID; the run has the channels {', '.join(rules)}")
        rules[known] = {"SeriesInstanceUID" if _UID.fullmatch(value) else "SeriesDescription": value}
    return rules


def choose_cases(
    images: Path,
    plan: Plan,
    runs: Sequence[Run],
    *,
    memory: int | None = None,
    splits: str | PathLike[str] | None = None,
    split: str | None = None,
    fold: int | None = None,
    names: Sequence[str] | None = None,
    image: Sequence[str] | None = None,
    mask: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    series: Sequence[str] | None = None,
    channel: Sequence[str] | None = None,
    told: Prediction,
    console: Console = SILENT,
) -> tuple[Sequence[Case], Sequence[Problem], Callable[[Case], Image]]:
    """Return the cases of a path to predict, its left-out files, and the function that loads an image.

    Cases have the channels of the ``plan``; ``runs`` are the runs that predict them, and ``told`` receives the
    warnings about the cases, ``console`` the patterns of the first run if they are used. ``image``, ``mask`` and
    ``exclude`` are those of `open_dataset`; without them a folder is read by the patterns of the first run if its files
    match. Of a folder of DICOM, ``series`` and ``channel`` (``NAME=UID``) choose the series, or the plan's rules.
    Raises :class:`InputError` for ``names`` that no case has.
    """
    channels = [channel.name for channel in plan.channels]
    reading = _reading(images, image, mask, exclude, series, runs, console)
    rules = _rules(plan, channel or ())
    cases, left_out, load, excluded, dataset = _find(images, channels, memory, reading, rules, told.warn)
    if channel and (dataset is not None or not _holds_studies(images, cases)):
        raise InputError(f"`channel` chooses among the DICOM series of a folder of studies, and {images} is none")
    known = [case.name for case in cases]
    own, test = _own_splits(runs, dataset, known), () if dataset is None else dataset.declared_test
    chosen = select_split(known, split, splits=splits, own=own, fold=fold, excluded=excluded, test=test)
    if chosen is not None:
        cases = [case for case in cases if case.name in chosen]
        _warn_of_seen(cases, runs, split, told)
    if names is not None:
        if unknown := sorted(set(names) - {case.name for case in cases}):
            raise InputError(f"{images}: has no cases {list_names(unknown)}")
        cases = [case for case in cases if case.name in set(names)]
    for problem in left_out:
        if problem.severity == "warning":
            told.warn(f"{problem.file} {problem.message}")
    return cases, left_out, load


def _holds_studies(images: Path, cases: Sequence[Case]) -> bool:
    """Return whether the cases of a path were sorted out of a folder of DICOM studies."""
    return images.is_dir() and not is_images_folder(images) and has_own_grids(cases[0].images[0])


def _own_splits(runs: Sequence[Run], dataset: Dataset | None, names: Sequence[str]) -> Path | None:
    """Return the file of splits that holds if none is given: that of the first run, which has its validation cases.

    If the dataset has none of the run's cases, because the run was trained on another one, its own file holds.
    """
    other = (
        dataset is not None and runs and not set(names) & {name for part in runs[0].splits.values() for name in part}
    )
    if runs and not other:
        return runs[0].path / "splits.json"
    return None if dataset is None else dataset.splits_file


def _dataset_around(images: Path) -> Dataset | None:
    """Return the nnU-Net dataset that a folder of images (imagesTs) belongs to; it names their channels."""
    folder = images if images.is_dir() else images.parent
    if not is_images_folder(folder) or not is_dataset(folder.parent):
        return None
    try:
        return open_dataset(folder.parent)
    except InputError:
        # Only the images were given: errors of the files around them do not matter.
        return None


def _order_of_channels(
    given: Sequence[str], wanted: Sequence[str], where: Path, warn: Callable[[str], None]
) -> tuple[int, ...]:
    """Return the position of each of the network's channels in a dataset.

    If no names agree, channels are taken in order, with a warning. Raises :class:`InputError` if only some agree.
    """
    order = channel_order(given, wanted)
    if order is not None:
        return order
    if {name.strip().lower() for name in given} & {name.strip().lower() for name in wanted}:
        raise InputError(
            f"{where}: has the channels {', '.join(given)}, but the run needs {', '.join(wanted)}; use the same "
            "names, or give a folder of images in that order"
        )
    warn(f"{where}: uses {', '.join(given)} as the run's {', '.join(wanted)}, in this order")
    return tuple(range(len(wanted)))


def _warn_of_seen(cases: Sequence[Case], runs: Sequence[Run], split: str | None, told: Prediction) -> None:
    seen = name_seen([case.name for case in cases], runs)
    if seen and split != "train":
        told.warn(
            f"{len(seen)} of the {number_of(len(cases), 'case')} of the split {split} "
            f"{'was a training case' if len(seen) == 1 else 'were training cases'} of a run, so the masks are better "
            f"than for new cases: {list_names(seen)}"
        )
