"""ISIC 2018, task 1, as published: ``ISIC2018_Task1-2_Training_Input`` with ``ISIC2018_Task1_Training_GroundTruth``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deconvseg.data.dataset import Dataset
from deconvseg.data.file_names import case_stem
from deconvseg.data.layouts.published import (
    Scan,
    complete_cases,
    draw_cases,
    has_files,
    labelled_names,
    pool_pictures,
)
from deconvseg.data.listing import list_image_files

PARTS = ("training", "validation", "test")

# DTC tests on 1,094 of the 3,694 images of all parts, which are not named: they are drawn with this seed.
_SEED, _TESTED, _POOLED = 2018, 1094, 3694
_FOLDER = re.compile(r"ISIC2018_Task1(-2)?_(?P<part>Training|Validation|Test)_(?P<holds>Input|GroundTruth)")
_IMAGE, _MASK = re.compile(r"(?P<name>ISIC_\d+)"), re.compile(r"(?P<name>ISIC_\d+)_segmentation")
_PATTERNS = [f"ISIC2018_Task1*_{part.title()}_Input/ISIC_*" for part in PARTS]


def is_isic(root: Path) -> bool:
    """Return whether a folder has one such as ``ISIC2018_Task1-2_Training_Input`` with images, or lies above it."""
    return has_files(root, _PATTERNS, [f"*/{pattern}" for pattern in _PATTERNS])


def open_isic(root: Path) -> Dataset:
    """Open ISIC 2018, task 1: one class, lesion; the parts of the challenge are pooled, as in DTC (section 4.1).

    1,094 of 3,694 cases are test cases, drawn from all sorted names with a fixed seed; fewer cases have as large a
    share of them. Superpixels and other files are left out.
    """
    scans: dict[str, Scan] = {}
    known = []
    for part, holds, name, path in _files(root):
        known.append(path)
        scans.setdefault(name, Scan(name, part=part)).files[holds].append(path)
    cases, problems = complete_cases(scans.values(), ("image",), "mask")
    (test,) = draw_cases(labelled_names(cases), (_TESTED,), _POOLED, seed=_SEED)
    return pool_pictures(
        *(root, "isic", "lesion", cases, problems),
        parts=dict.fromkeys(PARTS, ()),
        scans=scans,
        known=known,
        strangers="whose names are not those of ISIC 2018, task 1",
        test=test,
    )


def _files(root: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Yield each image and mask as its part, what it is, the name of its case, and its path."""
    places = [root, *(path for path in sorted(root.iterdir()) if path.is_dir())]
    folders = sorted({folder for place in places for folder in place.iterdir() if folder.is_dir()})
    for folder in folders:
        if match := _FOLDER.fullmatch(folder.name):
            holds, pattern = ("image", _IMAGE) if match["holds"] == "Input" else ("mask", _MASK)
            for path in list_image_files(folder):
                if named := pattern.fullmatch(case_stem(path)):
                    yield match["part"].lower(), holds, named["name"], path
