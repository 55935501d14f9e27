"""Shared code of the layouts of published datasets: files by name, complete cases, and the publisher's counts."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from deconvseg.catalog import CARDS, Card
from deconvseg.data.colours import RGB
from deconvseg.data.dataset import Case, Dataset, Problem, list_names
from deconvseg.data.file_names import case_stem, is_image_file
from deconvseg.data.layouts.left_out import find_left_out, walk_folders
from deconvseg.data.listing import find_splits
from deconvseg.errors import InputError
from deconvseg.text import number_of

# Names of masks by dataset, in a folder or one level below: without images no layout recognises them.
_MASKS: Mapping[str, tuple[str, ...]] = {
    "isic": ("ISIC2018_Task1*_GroundTruth/ISIC_*_segmentation.*",),
    "glas": tuple(f"{part}_[0-9]*_anno.*" for part in ("train", "testA", "testB")),
    "fives": ("Ground truth/[0-9]*_[ADGN].*",),
    "busi": tuple(f"{part} ([0-9]*)_mask*.*" for part in ("benign", "malignant")),
}

# What a folder with another layout of its own has: a published dataset deeper in it is then not meant.
_OTHER_LAYOUTS = ("dataset.json", "imagesTr", "images")


@dataclass
class Scan:
    """The files of a possible case by sequence, its group, and whether its part of the dataset has masks."""

    name: str
    group: str | None = None
    part: str = ""
    files: dict[str, list[Path]] = field(default_factory=lambda: defaultdict(list))


def has_files(root: Path, patterns: Iterable[str], nested: Iterable[str] = ()) -> bool:
    """Return whether a folder has files of these patterns; ``nested`` ones count if it has no layout of its own."""
    if not root.is_dir():
        return False
    if any(_matches(root, pattern) for pattern in patterns):
        return True
    return not any((root / name).exists() for name in _OTHER_LAYOUTS) and any(
        _matches(root, pattern) for pattern in nested
    )


def describe_masks_alone(root: Path) -> str | None:
    """Return a sentence about a folder of masks of a published dataset without their images; None for others."""
    for name, patterns in _MASKS.items():
        found = [path for pattern in patterns for above in ("", "*/") for path in root.glob(f"{above}{pattern}")]
        if (first := min(filter(is_image_file, found), default=None)) is not None:
            return (
                f"{root} holds masks of {CARDS[name].title} ({first.relative_to(root).as_posix()}) and no images; put "
                f"them where 'deconvseg data card {name}' says"
            )
    return None


def _matches(root: Path, pattern: str) -> bool:
    return any(is_image_file(path) for path in root.glob(pattern))


def find_named(root: Path, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
    """Return the image files below a folder whose names without the suffix match, sorted by path."""
    images = sorted(path for _, files in walk_folders(root) for path in files if is_image_file(path))
    matches = ((pattern.fullmatch(case_stem(path)), path) for path in images)
    return [(match, path) for match, path in matches if match is not None]


def complete_cases(
    scans: Iterable[Scan], sequences: Sequence[str], mask: str, *, unmasked: Collection[str] = ()
) -> tuple[list[Case], list[Problem]]:
    """Return the cases that have one file of each of the ``sequences``, and a problem for each missing file.

    A missing mask is a problem unless the scan is of an ``unmasked`` part, or no scan of its part has a mask, as in a
    folder of images to predict. Scans without any of the ``sequences`` are masks without images.
    """
    scans = list(scans)
    masked = {scan.part for scan in scans if scan.files.get(mask)} - set(unmasked)
    cases, problems = [], []
    for scan in scans:
        found = {sequence: scan.files.get(sequence, []) for sequence in (*sequences, mask)}
        example = str(next(path for paths in scan.files.values() for path in paths))
        missing = [sequence for sequence in sequences if not found[sequence]]
        if twice := next((paths for paths in found.values() if len(paths) > 1), None):
            names = " and ".join(str(path) for path in twice[1:])
            problems.append(Problem(str(twice[0]), f"is there again as {names}; keep one of them", "error", scan.name))
        elif len(missing) == len(sequences):
            problems.append(Problem(example, "is a mask without an image", "warning", scan.name))
        elif missing:
            message = f"has no {' and no '.join(missing)} beside it, and its case is left out; download it again"
            problems.append(Problem(example, message, "error", scan.name))
        else:
            label = next(iter(found[mask]), None)
            images = tuple(found[sequence][0] for sequence in sequences)
            cases.append(Case(scan.name, images, label, scan.group))
            if label is None and scan.part in masked:
                problems.append(Problem(str(images[0]), "has no mask", "error", scan.name))
    return cases, problems


def check_counts(root: Path, card: Card, found: Mapping[str, Collection[str]], **known: Sequence[str]) -> list[Problem]:
    """Return a warning for each part whose number of complete cases is not the publisher's.

    A part without any case is not asked for in a folder of images to predict, or if its masks are not published.
    ``found`` has the names of the cases of each part, ``known`` all names that a part has, where its publisher numbers
    them.
    """
    problems = []
    for part, names in found.items():
        stated = card.counts[part]
        masked = part in card.masks and any(found[other] for other in card.masks if other in found)
        if len(names) == stated or (not names and not masked):
            continue
        absent = [name for name in known.get(part, ()) if name not in names]
        listed = f": missing are {list_names(absent, limit=3)}" if absent else ""
        have = number_of(len(names), f"complete {part} case")
        message = f"has {have}, and its publisher states {stated:,}{listed}"
        problems.append(Problem(str(root), message, "warning"))
    return problems


def pool_pictures(
    root: Path,
    layout: str,
    structure: str,
    cases: Sequence[Case],
    problems: Sequence[Problem],
    *,
    parts: Mapping[str, Sequence[str]],
    scans: Mapping[str, Scan],
    known: Sequence[Path],
    strangers: str,
    test: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
) -> Dataset:
    """Return a published dataset of RGB pictures whose masks show one ``structure``, all parts pooled.

    ``parts`` has all names of each part where its publisher numbers them; of other image files than the ``known`` ones
    a warning says what ``strangers`` they are. Raises `InputError` if there is no case.
    """
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}")
    labelled = labelled_names(cases)
    found = {part: {name for name in labelled if scans[name].part == part} for part in parts}
    return Dataset(
        root=root,
        layout=layout,
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        channel_names=RGB,
        foreground=True,
        foreground_name=structure,
        splits_file=find_splits(root),
        declared_test=test,
        declared_unused=unused,
        problems=(
            *problems,
            *check_counts(root, CARDS[layout], found, **parts),
            *find_left_out(root, known, severity="warning", because=strangers),
        ),
    )


def labelled_names(cases: Iterable[Case]) -> list[str]:
    """Return the sorted names of the cases that have a mask."""
    return sorted(case.name for case in cases if case.label is not None)


def draw_cases(names: Sequence[str], sizes: Sequence[int], of: int, *, seed: int) -> tuple[tuple[str, ...], ...]:
    """Return parts of sorted ``names``, drawn with a seed: as many as ``sizes``, or the same shares if not ``of`` all.

    The first part does not depend on the others.
    """
    order = np.random.default_rng(seed).permutation(len(names))
    ends = np.cumsum([0, *(round(len(names) * size / of) for size in sizes)])
    return tuple(tuple(sorted(names[place] for place in order[start:end])) for start, end in pairwise(ends))
