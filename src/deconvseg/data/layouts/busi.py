"""BUSI as published: ``benign/benign (1).png`` with ``benign (1)_mask.png`` and, for a second lesion, ``_mask_1``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.dataset import Case, Dataset, Problem, list_names
from deconvseg.data.labels.sources import MaskPart
from deconvseg.data.layouts.published import (
    Scan,
    complete_cases,
    draw_cases,
    find_named,
    has_files,
    labelled_names,
    pool_pictures,
)
from deconvseg.text import number_of

PARTS = ("benign", "malignant")
NORMAL = 133

# DTC trains on 520 and tests on 87 of the 647 images with lesions, and names neither: they are drawn with this seed.
_SEED, _TESTED, _UNUSED, _LESIONS = 2020, 87, 40, 647
_FILE = re.compile(r"(?P<case>(?P<part>benign|malignant|normal) \(\d+\))(?P<mask>_mask(_(?P<further>\d+))?)?")
_NAMES = [f"{part} ([0-9]*).*" for part in PARTS]
_PARTED = [f"{part}/{name}" for part, name in zip(PARTS, _NAMES, strict=True)]


def is_busi(root: Path) -> bool:
    """Return whether a folder has ``benign/benign (1).png`` or the like, is a part, or lies above."""
    if has_files(root, [*_PARTED, *_NAMES], [f"*/{name}" for name in _PARTED]):
        return True
    masks = [f"{place}/{part} ([0-9]*_mask*.*" for place in ("images", "masks", "labels") for part in PARTS]
    return has_files(root, [f"images/{name}" for name in _NAMES]) and has_files(root, masks)


def open_busi(root: Path) -> Dataset:
    """Open BUSI: one class, lesion, of benign and malignant images; normal images are left out, as in DTC.

    The masks of several lesions of an image are united. 87 of 647 cases are test cases and 40 are in no split, drawn
    from all sorted names with a fixed seed; fewer cases have as large shares of them.
    """
    scans: dict[str, Scan] = {}
    further: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    known, normal = [], set()
    for match, path in find_named(root, _FILE):
        known.append(path)
        name = match["case"]
        if match["part"] == "normal":
            normal.add(name)
        elif match["further"]:
            further[name][match["further"]].append(path)
        else:
            scan = scans.setdefault(name, Scan(name, part=match["part"]))
            scan.files["mask" if match["mask"] else "image"].append(path)
    cases, problems = complete_cases(scans.values(), ("image",), "mask")
    cases, of_masks = _unite(cases, further)
    problems += of_masks
    counts = CARDS["busi"].counts
    test, unused = draw_cases(labelled_names(cases), (_TESTED, _UNUSED), _LESIONS, seed=_SEED)
    return pool_pictures(
        *(root, "busi", "lesion", cases),
        [*problems, *_describe_others(root, normal, unused)],
        parts={part: [f"{part} ({number})" for number in range(1, counts[part] + 1)] for part in PARTS},
        scans=scans,
        known=known,
        strangers="whose names are not those of BUSI",
        test=test,
        unused=unused,
    )


def _unite(
    cases: Iterable[Case], further: Mapping[str, Mapping[str, Sequence[Path]]]
) -> tuple[list[Case], list[Problem]]:
    """Return the cases with all files of their masks, without those of which a further mask is there twice."""
    united, problems = [], []
    for case in cases:
        files = further.get(case.name, {})
        if twice := next((paths for paths in files.values() if len(paths) > 1), None):
            names = " and ".join(map(str, twice[1:]))
            problems.append(Problem(str(twice[0]), f"is there again as {names}; keep one of them", "error", case.name))
        elif case.label is not None and files:
            paths = [case.label, *(files[number][0] for number in sorted(files, key=int))]
            united.append(replace(case, masks=tuple(map(MaskPart, paths))))
        else:
            united.append(case)
    return united, problems


def _describe_others(root: Path, normal: set[str], unused: Sequence[str]) -> list[Problem]:
    """Return warnings about the images of no lesion, and about the cases of no split."""
    problems = []
    if normal:
        short = f" of the {NORMAL} that its publisher states" if len(normal) != NORMAL else ""
        message = f"has {number_of(len(normal), 'image')} of normal tissue{short}, left out: the paper takes lesions"
        problems.append(Problem(str(root), message, "warning"))
    if unused:
        names = list_names(unused, limit=3)
        message = (
            f"keeps {number_of(len(unused), 'case')} out of all splits ({names}), because the paper takes 607 of "
            f"{_LESIONS} images; a file of splits may name them"
        )
        problems.append(Problem(str(root), message, "warning"))
    return problems
