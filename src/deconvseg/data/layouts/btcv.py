"""BTCV (abdomen) as published: ``img/img0001.nii.gz`` with ``label/label0001.nii.gz``, below ``RawData/Training/``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.dataset import Dataset
from deconvseg.data.file_names import case_stem
from deconvseg.data.layouts.left_out import find_left_out
from deconvseg.data.layouts.published import Scan, check_counts, complete_cases, has_files
from deconvseg.data.listing import find_splits, list_image_files
from deconvseg.errors import InputError

ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal vein and splenic vein",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
# The numbers of the 30 training cases, and the 12 of them that TransUNet and many papers since test on.
NUMBERS = (*range(1, 11), *range(21, 41))
TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)

_TESTING = range(61, 81)
_FOLDERS = ("", "Training/", "Testing/", "RawData/Training/", "RawData/Testing/", "Abdomen/RawData/Training/")
_SCANS, _MASKS = re.compile(r"img(?P<number>\d{4})"), re.compile(r"label(?P<number>\d{4})")


def is_btcv(root: Path) -> bool:
    """Return whether a folder has ``img/img0001.nii.gz`` in it, or below ``RawData/Training/``."""
    name = "img/img[0-9][0-9][0-9][0-9].nii*"
    return has_files(root, [f"{folder}{name}" for folder in _FOLDERS])


def open_btcv(root: Path) -> Dataset:
    """Open BTCV: one channel, CT, and thirteen organs; twelve of the training cases are the paper's test cases.

    The scans 0061 to 0080 have no published masks, and are in no split.
    """
    scans: dict[str, Scan] = {}
    known = []
    for sequence, number, path in _files(root):
        known.append(path)
        testing = int(number) in _TESTING
        name = f"img{number}"
        scan = scans.setdefault(name, Scan(name, part="testing" if testing else "training"))
        scan.files[sequence].append(path)
    cases, problems = complete_cases(scans.values(), ("img",), "label", unmasked=("testing",))
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}")
    found = {
        "training": {case.name for case in cases if case.label is not None},
        "testing": {case.name for case in cases if scans[case.name].part == "testing"},
    }
    names = {"training": [f"img{number:04d}" for number in NUMBERS], "testing": [f"img{n:04d}" for n in _TESTING]}
    return Dataset(
        root=root,
        layout="btcv",
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        channel_names=("CT",),
        label_names={0: "background", **dict(enumerate(ORGANS, start=1))},
        splits_file=find_splits(root),
        declared_test=tuple(f"img{number:04d}" for number in TEST),
        problems=(
            *problems,
            *check_counts(root, CARDS["btcv"], found, **names),
            *find_left_out(root, known, severity="warning", because="whose names are not those of BTCV"),
        ),
    )


def _files(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield each scan and mask as its sequence (img or label), its number, and its path."""
    for folder in dict.fromkeys(root / name for name in (*_FOLDERS, "Abdomen/RawData/Testing/")):
        for sequence, pattern in (("img", _SCANS), ("label", _MASKS)):
            place = folder / sequence
            for path in list_image_files(place) if place.is_dir() else ():
                if match := pattern.fullmatch(case_stem(path)):
                    yield sequence, match["number"], path
