"""A dataset: named cases on disk, and how one is loaded."""

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
    """Something wrong with one file of a dataset: an error stops training on it, a warning does not.

    ``case`` is the name of the case that the file belongs to, or would, where its name tells.
    """

    file: str
    message: str
    severity: Literal["error", "warning"]
    case: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The problem as a plain dictionary."""
        return {"file": self.file, "message": self.message, "severity": self.severity}


@dataclass(frozen=True)
class Case:
    """One scan: its image files (one, or one per channel), its mask where it has one, and the subject it is of.

    ``group`` is what a table says (`Dataset.groups`). Where several files make up the mask, or a file is of one class,
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
        """All its files, those too that hold the voxels of a header (MetaImage, NRRD)."""
        return tuple(file for path in (*self.images, *self.mask_files) for file in files_of(path))

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The files of its mask; none where it has no mask."""
        if self.label is None:
            return ()
        # A class may have several patterns that one file matches.
        return tuple(dict.fromkeys(part.path for part in self.masks)) or (self.label,)


@dataclass(frozen=True)
class Region:
    """A class that is a union of labels, as BraTS's whole tumour; written into a mask as ``written_as``."""

    name: str
    labels: tuple[int, ...]
    written_as: int


@dataclass(frozen=True)
class Exclusion:
    """A case that is left out of everything, and the reason, where one is given."""

    case: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.case} ({self.reason})" if self.reason else self.case


@dataclass(frozen=True)
class Dataset:
    """Cases found on disk, with what the dataset declares about itself.

    ``root`` is its folder, or the CSV file that lists it; ``channel_names`` has one name per channel, and
    ``guessed_channels`` says that nothing declares them: they are what the images show; ``label_names``, without the
    ignore label, is None where nothing declares the labels; ``regions`` are nnU-Net's, in the order of
    ``regions_class_order``; ``channels_last`` says that 4D files are allowed, their last axis the channels;
    ``foreground`` that every label above zero counts as one class, called ``foreground_name``; ``splits_file`` is a
    splits file found in the dataset; ``problems`` are those that the listing showed; ``excluded`` are the cases that
    are left out on purpose. ``merged_labels`` has for each further value of a class the one that stands for it,
    ``label_colours`` the declared colours ``#rrggbb`` by name, and ``mask_colours`` the values of the colours of masks
    in true colour.
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
        """The names of the cases that are left out on purpose."""
        return tuple(exclusion.case for exclusion in self.excluded)

    @property
    def groups(self) -> dict[str, str]:
        """What must not be divided between splits, by case name: what a table says, a BIDS subject, else the case."""
        return {case.name: case.group or subject_of(case.name) for case in self.cases}

    def case(self, name: str) -> Case:
        """The case of that name; `InputError` where there is none."""
        found = self._by_name.get(name)
        if found is None:
            raise InputError(f"{self.root} has no case {name!r}; it has {list_names(self.names)}")
        return found

    @cached_property
    def _by_name(self) -> dict[str, Case]:
        return {case.name: case for case in self.cases}

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The errors of files and cases that are not among `cases`."""
        names = set(self.names)
        return tuple(p for p in self.problems if p.severity == "error" and p.case not in names)

    def select(self, names: Iterable[str]) -> Dataset:
        """The dataset of these cases alone, in this order.

        Channels that nothing declares are then what these cases show, and stay so in a selection from them: a
        colour image among the test cases does not make the grey ones colour.
        """
        cases = tuple(map(self.case, names))
        if not cases or not self.guessed_channels:
            return replace(self, cases=cases)
        channel_names = guess_channels([case.images[0] for case in cases])
        return replace(self, cases=cases, channel_names=channel_names, guessed_channels=False)

    def load(self, case: Case) -> tuple[Image, LabelMap | None]:
        """The image and the mask of a case; `InputError` names both files where their grids differ."""
        image, label_map = self.load_image(case), self.load_label(case)
        if label_map is None or case.label is None:
            return image, None
        label_map = uncrop(label_map, case.label, image)
        check_same_grid(image, case.images[0], label_map, case.label)
        # One geometry for both, to the last digit: resampling must not round them to different sizes.
        return image, replace(label_map, geometry=image.geometry)

    def load_image(self, case: Case) -> Image:
        """The image of a case, grey expanded to RGB in a colour dataset; `InputError` for other channels."""
        image = read_image(case.images, channels_last=self.channels_last)
        return match_channels(image, self.channel_names, str(case.images[0]))

    def expands_grey(self, case: Case) -> bool:
        """Whether `load_image` repeats this case's single grey channel as red, green and blue."""
        return is_rgb(self.channel_names) and len(case.images) == 1 and read_header(case.images[0]).channels == 1

    def load_label(self, case: Case) -> LabelMap | None:
        """The mask of a case with the values of its files, or None where it has none (`MaskSource.read`).

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
        """How the mask of a case is made of its files; None where it has none."""
        if case.label is None:
            return None
        parts = case.masks or (MaskPart(case.label),)
        return MaskSource(parts, self.merged_labels, self.mask_colours)


def case_notes(case: Case) -> list[Problem]:
    """What the readers had to assume about the files of a case; `InputError` for a header that cannot be read."""
    found = [(path, note) for path in case.images for note in read_header(path).notes]
    for mask in case.mask_files:
        header = read_header(mask)
        found += [(mask, note) for note in (*header.notes, *header.mask_notes)]
        if header.orientation == 1 and any(read_header(path).orientation != 1 for path in case.images):
            turned = "is turned as EXIF says, and its mask is not: the mask must be drawn on the picture as it is shown"
            found.append((case.images[0], turned))
    return [Problem(str(path), note, "warning", case.name) for path, note in found]


def report_problems(dataset: Dataset, names: Iterable[str], limit: int = 8) -> list[str]:
    """A line for each kind of problem that the listing of a dataset and the headers of the cases ``names`` showed.

    Each names the first file and how many there are. A header that cannot be read is left to those that read its file.

    Raises `InputError` for an error of one of the cases ``names``, those that are to be used.
    """
    chosen = set(names)
    for problem in dataset.problems:
        if problem.severity == "error" and problem.case in chosen:
            raise InputError(
                f"{problem.file} {problem.message}; mend it, or leave {problem.case} out of the splits (`splits`)"
            )
    alike: dict[str, list[str]] = {}
    notes: list[Problem] = []
    if dataset.excluded:
        notes.append(Problem(str(dataset.root), describe_excluded(dataset), "warning"))
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


def describe_excluded(dataset: Dataset) -> str:
    """A phrase about how many cases are left out on purpose, and which."""
    count = len(dataset.excluded)
    return f"leaves out {count} {'case' if count == 1 else 'cases'} as asked: {list_names(dataset.excluded)}"


def list_names(names: Iterable[object], limit: int = 5) -> str:
    """The first few names and how many more there are, for a message of one line."""
    listed = [str(name) for name in names]
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
