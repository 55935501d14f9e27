"""FIVES as published: ``train/Original/1_A.png`` with ``train/Ground truth/1_A.png``, and ``test/…``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.dataset import Dataset
from deconvseg.data.layouts.published import Scan, complete_cases, find_named, has_files, pool_pictures

PARTS = ("train", "test")

# The letter is that of the disease: macular degeneration (A), diabetic retinopathy (D), glaucoma (G), normal (N).
_FILE = re.compile(r"(?P<number>\d+)_(?P<disease>[ADGN])")
_IMAGES, _MASKS = "original", ("ground truth", "groundtruth", "ground_truth")
_NAME = "Original/[0-9]*_[ADGN].*"
_PARTED = [f"{part}/{_NAME}" for part in PARTS]
_DISEASES = "ADGN"


def is_fives(root: Path) -> bool:
    """Return whether a folder has ``train/Original/1_A.png`` or the like, is a part or its images, or lies above."""
    if root.resolve().name.lower() == _IMAGES and has_files(root, ["[0-9]*_[ADGN].*"]):
        return True
    nested = [f"{above}{name}" for above in ("*/", "*/*/") for name in _PARTED]
    return has_files(root, [_NAME, *_PARTED], nested)


def open_fives(root: Path) -> Dataset:
    """Open FIVES: one class, vessel; both parts are pooled.

    An image of the training part and one of the test part may have one file name, so the case names begin with that
    of the part: ``train_1_A``, ``test_1_A``.
    """
    scans: dict[str, Scan] = {}
    known = []
    for part, holds, name, path in _files(root):
        known.append(path)
        case = f"{part}_{name}" if part else name
        scans.setdefault(case, Scan(case, part=part)).files[holds].append(path)
    cases, problems = complete_cases(scans.values(), ("image",), "mask")
    parts = {part: name_cases(part) for part in PARTS}
    strangers = "whose names or folders are not those of FIVES"
    return pool_pictures(
        root, "fives", "vessel", cases, problems, parts=parts, scans=scans, known=known, strangers=strangers
    )


def name_cases(part: str) -> list[str]:
    """Return the names of all cases of a part: 1 to 150 (in the test part 1 to 50) with A, then on with D, G and N."""
    each = CARDS["fives"].counts[part] // len(_DISEASES)
    return [
        f"{part}_{number}_{letter}"
        for place, letter in enumerate(_DISEASES)
        for number in range(place * each + 1, (place + 1) * each + 1)
    ]


def _files(root: Path) -> Iterator[tuple[str, str, str, Path]]:
    """Yield each image and mask as its part, what it is, its name, and its path."""
    for match, path in find_named(root, _FILE):
        # The folders around a path that is given relative to the current one.
        folder = path.parent.resolve()
        holds = {_IMAGES: "image", **dict.fromkeys(_MASKS, "mask")}.get(folder.name.lower())
        if holds is not None:
            part = folder.parent.name.lower()
            yield part if part in PARTS else "", holds, match[0], path
