"""Datasets: named cases on disk and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from deconvseg.data.bids_names import subject_of
from deconvseg.data.case_names import check_case_name
from deconvseg.data.colours import is_rgb
from deconvseg.data.file_names import files_of
from deconvseg.data.grids import check_same_grid
from deconvseg.data.headers import read_header
from deconvseg.data.labels.encoding import WHITE, align_white
from deconvseg.data.labels.segments import uncrop
from deconvseg.data.labels.sources import MaskPart, MaskSource
from deconvseg.data.listing import guess_channels
from deconvseg.data.preprocessing import match_channels
from deconvseg.data.reading import read_image
from deconvseg.data.types import Image, LabelMap
from deconvseg.errors import InputError


@dataclass(frozen=True)
class Problem:
    """A problem with one file of a dataset: an error prevents training on it, a warning does not.

    ``case`` is the name of the case that the file belongs to, if its name shows it.
    """

    file: str
    message: str
    severity: Literal["error", "warning"]
    case: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the problem as a plain dictionary."""
        return {"file": self.file, "message": self.message, "severity": self.severity}


@dataclass(frozen=True)
class Case:
    """One scan: its image files (one, or one per channel), its mask if there is one, and its group.

    ``group`` is the group that a table gives, such as the subject (see `Dataset.groups`). Where several files make up
    the mask, or a file is of one class,
    ``masks`` has all of them, and ``label`` is the first.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    group: str | None = None
    masks: tuple[MaskPart, ...] = ()

    def __post_init__(self) -> None:
        check_case_name(self.name, self.images)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the case, including data files that a header names (MetaImage, NRRD)."""
        return tuple(file for path in (*self.images, *self.mask_files) for file in files_of(path))

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The files of the mask; empty without a mask."""
        if self.label is None:
            return ()
        # A class may have several patterns that one file matches.
        return tuple(dict.fromkeys(part.path for part in self.masks)) or (self.label,)


@dataclass(frozen=True)
class Region:
    """A class that is a union of labels, such as the whole tumour of BraTS; masks store it as ``written_as``."""

    name: str
    labels: tuple[int, ...]
    written_as: int


@dataclass(frozen=True)
class Exclusion:
    """An excluded case, with the reason if one is given, its group, whether it has a mask, and its files."""

    case: str
    reason: str = ""
    group: str = ""
    labelled: bool = False
    scan: Case | None = None

    def __str__(self) -> str:
        return f"{self.case} ({self.reason})" if self.reason else self.case


@dataclass(frozen=True)
class Dataset:
    """The cases found on disk and the declarations of the dataset.

    ``root`` is the dataset's folder, or the CSV file that lists it. ``channel_names`` has one name per channel;
    ``guessed_channels`` is true if the names are not declared but derived from the images. ``label_names`` excludes the
    ignore label and is None if the labels are not declared. ``regions`` are those of nnU-Net, in the order of
    ``regions_class_order``. ``channels_last`` allows 4D files whose last axis is the channels. With ``foreground``
    every label above zero counts as one class named ``foreground_name``. ``splits_file`` is a splits file found in the
    dataset, ``problems`` are those found while listing the cases, and ``excluded`` are the cases that the user
    excludes. ``merged_labels`` maps further values of a class to its main value, ``label_colours`` maps class names to
    declared colours ``#rrggbb``, and ``mask_colours`` maps the colours of masks in true colour to label values.
    ``declared_test`` names the test cases that the layout declares, and ``declared_unused`` the cases that it keeps out
    of all splits; both hold without a file of splits.
    """

    root: Path
    layout: str
    cases: tuple[Case, ...]
    channel_names: tuple[str, ...]
    label_names: Mapping[int, str] | None = None
    regions: tuple[Region, ...] | None = None
    ignore_label: int | None = None
    guessed_channels: bool = False
    channels_last: bool = False
    foreground: bool = False
    splits_file: Path | None = None
    problems: tuple[Problem, ...] = field(default=())
    excluded: tuple[Exclusion, ...] = ()
    merged_labels: Mapping[int, int] = field(default_factory=dict)
    label_colours: Mapping[str, str] = field(default_factory=dict)
    mask_colours: Mapping[str, int] = field(default_factory=dict)
    foreground_name: str = "foreground"
    declared_test: tuple[str, ...] = ()
    declared_unused: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all cases, in order."""
        return tuple(case.name for case in self.cases)

    @property
    def labelled_names(self) -> tuple[str, ...]:
        """The names of the cases that have a mask, in order."""
        return tuple(case.name for case in self.cases if case.label is not None)

    @property
    def excluded_names(self) -> tuple[str, ...]:
        """The names of the excluded cases."""
        return tuple(exclusion.case for exclusion in self.excluded)

    @property
    def groups(self) -> dict[str, str]:
        """The group of each case, which splits must not divide: by a table, the BIDS subject, or the case itself."""
        return {case.name: case.group or subject_of(case.name) for case in self.cases}

    def case(self, name: str) -> Case:
        """Return the case with this name; `InputError` if there is none."""
        found = self._by_name.get(name)
        if found is None:
            raise InputError(f"{self.root} has no case {name!r}; its cases are {list_names(self.names)}")
        return found

    @cached_property
    def _by_name(self) -> dict[str, Case]:
        return {case.name: case for case in self.cases}

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The errors of files and cases that are not in ``cases``."""
        names = set(self.names)
        return tuple(p for p in self.problems if p.severity == "error" and p.case not in names)

    def select(self, names: Iterable[str]) -> Dataset:
        """Return a dataset of only these cases, in this order.

        Channels that are not declared are derived again, from these cases, and then fixed for later selections: a
        colour image among the test cases does not turn grey training images into colour.
        """
        cases = tuple(map(self.case, names))
        if not cases or not self.guessed_channels:
            return replace(self, cases=cases)
        channel_names = guess_channels([case.images[0] for case in cases])
        return replace(self, cases=cases, channel_names=channel_names, guessed_channels=False)

    def load(self, case: Case) -> tuple[Image, LabelMap | None]:
        """Return the image and the mask of a case; `InputError` names both files if their grids differ."""
        image, label_map = self.load_image(case), self.load_label(case)
        if label_map is None or case.label is None:
            return image, None
        label_map = uncrop(label_map, case.label, image)
        check_same_grid(image, case.images[0], label_map, case.label)
        # Exactly one geometry for both, so that resampling does not round them to different sizes.
        return image, replace(label_map, geometry=image.geometry)

    def load_image(self, case: Case) -> Image:
        """Return the image of a case, grey as RGB in a colour dataset; `InputError` for other channels."""
        image = read_image(case.images, channels_last=self.channels_last)
        return match_channels(image, self.channel_names, str(case.images[0]))

    def expands_grey(self, case: Case) -> bool:
        """Return whether `load_image` repeats the grey channel of this case as red, green and blue."""
        return is_rgb(self.channel_names) and len(case.images) == 1 and read_header(case.images[0]).channels == 1

    def load_label(self, case: Case) -> LabelMap | None:
        """Read the mask of a case with the values of its files (`MaskSource.read`), or return None without a mask.

        Values that are one class have the first of them; white is that of a single declared class.
        """
        source = self.mask_source(case)
        if source is None:
            return None
        found = source.read(foreground=self.foreground)
        classes = set(self.label_names or ()) - {0}
        if self.foreground or len(classes) != 1 or not classes <= set(WHITE):
            return found
        pixels = align_white(found.pixels, *classes, ignore=self.ignore_label, white=found.white)
        return found if pixels is found.pixels else replace(found, pixels=pixels, white=None)

    def mask_source(self, case: Case) -> MaskSource | None:
        """Return the source of a case's mask, or None without a mask."""
        if case.label is None:
            return None
        parts = case.masks or (MaskPart(case.label),)
        return MaskSource(parts, self.merged_labels, self.mask_colours)


def case_notes(case: Case) -> list[Problem]:
    """Return what readers had to assume about the files of a case; `InputError` for an unreadable header."""
    found = [(path, note) for path in case.images for note in read_header(path).notes]
    for mask in case.mask_files:
        header = read_header(mask)
        found += [(mask, note) for note in (*header.notes, *header.mask_notes)]
        if header.orientation == 1 and any(read_header(path).orientation != 1 for path in case.images):
            turned = "is turned as EXIF says, and its mask is not: the mask must be drawn on the picture as it is shown"
            found.append((case.images[0], turned))
    return [Problem(str(path), note, "warning", case.name) for path, note in found]


def report_problems(dataset: Dataset, names: Iterable[str], limit: int = 8) -> list[str]:
    """Return a line for each kind of problem found while listing a dataset and reading the headers of ``names``.

    Each line names the first file and the number of files. An unreadable header is skipped here: reading the file
    reports it.

    Raises `InputError` if one of the cases ``names``, which the caller will use, has an error.
    """
    chosen = set(names)
    for problem in dataset.problems:
        if problem.severity == "error" and problem.case in chosen:
            raise InputError(f"{problem.file} {problem.message}; fix it, or exclude {problem.case} (`exclude`)")
    alike: dict[str, list[str]] = {}
    notes: list[Problem] = []
    for case in dataset.cases:
        if case.name in chosen:
            with suppress(InputError):
                notes += case_notes(case)
    for problem in (*dataset.problems, *notes):
        alike.setdefault(problem.message, []).append(problem.file)
    lines = []
    for message, files in list(alike.items())[:limit]:
        others = list_names((Path(file).name for file in files[1:]), limit=2)
        lines.append(f"{files[0]} {message}{f' ({len(files) - 1} more files: {others})' if others else ''}")
    if (count := len(alike)) > limit:
        lines.append(f"{count - limit} more kinds of problems; 'deconvseg data check' names each file")
    return lines


def describe_excluded(dataset: Dataset) -> str | None:
    """Return a line with the number and names of the excluded cases; None if there are none."""
    count = len(dataset.excluded)
    if not count:
        return None
    cases = "case" if count == 1 else "cases"
    return f"{dataset.root} leaves out {count} {cases} as asked: {list_names(dataset.excluded)}"


def list_names(names: Iterable[object], limit: int = 5) -> str:
    """Return the first few names and the number of the others, for a one-line message."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
