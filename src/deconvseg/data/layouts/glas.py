"""GlaS (Warwick-QU) as published: ``train_1.bmp`` with ``train_1_anno.bmp``, ``testA_1.bmp``, ``testB_1.bmp``."""

from __future__ import annotations

import re
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.dataset import Dataset
from deconvseg.data.layouts.published import Scan, complete_cases, find_named, has_files, pool_pictures

PARTS = ("train", "testA", "testB")

_FILE = re.compile(r"(?P<case>(?P<part>train|testA|testB)_\d+)(?P<mask>_anno)?")
_NUMBERS = ("[0-9]", "[0-9][0-9]")
_TESTED = [f"{part}_{number}.*" for part in PARTS[1:] for number in _NUMBERS]
_TRAINED = [f"train_{number}.*" for number in _NUMBERS]
_MASKS = [f"train_{number}_anno.*" for number in _NUMBERS]
# The publisher's folder is flat; copies often have images and masks in folders apart.
_APART = ("images/", "masks/", "labels/", "annotations/")


def is_glas(root: Path) -> bool:
    """Return whether a folder, or one in it, has images such as ``testA_1.bmp``, or ``train_1.bmp`` with its mask."""
    if _has(root, _TESTED) or (_has(root, _TRAINED) and _has(root, _MASKS)):
        return True
    images = [f"{_APART[0]}{name}" for name in (*_TESTED, *_TRAINED)]
    return has_files(root, images) and has_files(root, [f"{place}*_[0-9]*_anno.*" for place in _APART])


def _has(root: Path, names: list[str]) -> bool:
    return has_files(root, names, [f"*/{name}" for name in names])


def open_glas(root: Path) -> Dataset:
    """Open GlaS: one class, gland, whatever its number in the instance maps; the three parts are pooled."""
    scans: dict[str, Scan] = {}
    known = []
    for match, path in find_named(root, _FILE):
        known.append(path)
        scan = scans.setdefault(match["case"], Scan(match["case"], part=match["part"]))
        scan.files["mask" if match["mask"] else "image"].append(path)
    cases, problems = complete_cases(scans.values(), ("image",), "mask")
    counts = CARDS["glas"].counts
    parts = {part: [f"{part}_{number}" for number in range(1, counts[part] + 1)] for part in PARTS}
    strangers = "whose names are not those of GlaS"
    return pool_pictures(
        root, "glas", "gland", cases, problems, parts=parts, scans=scans, known=known, strangers=strangers
    )
