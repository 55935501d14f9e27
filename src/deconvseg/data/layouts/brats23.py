"""BraTS'23 (adult glioma) as published: ``BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz`` and its siblings."""

from __future__ import annotations

import re
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.dataset import Dataset, Region
from deconvseg.data.layouts.left_out import find_left_out
from deconvseg.data.layouts.published import Scan, check_counts, complete_cases, find_named, has_files
from deconvseg.data.listing import find_splits
from deconvseg.errors import InputError

_SEQUENCES, _MASK = ("t1n", "t1c", "t2w", "t2f"), "seg"
_FILE = re.compile(rf"(?P<case>(?P<subject>BraTS-GLI-\d{{5}})-\d{{3}})-(?P<sequence>{'|'.join((*_SEQUENCES, _MASK))})")
_IMAGES = tuple(f"BraTS-GLI-*-{sequence}.nii*" for sequence in _SEQUENCES)
# Larger regions first: the smaller are painted over them.
_REGIONS = (Region("WT", (1, 2, 3), 2), Region("TC", (1, 3), 1), Region("ET", (3,), 3))
_UNMASKED = "validation"


def is_brats23(root: Path) -> bool:
    """Return whether a folder, or one in it, has the scans of BraTS'23, or is the folder of one case."""
    patterns = [f"{place}{name}" for place in ("", "BraTS-GLI-*/") for name in _IMAGES]
    nested = [f"{place}BraTS-GLI-*/{name}" for place in ("*/", "*/*/") for name in _IMAGES]
    return has_files(root, patterns, nested)


def open_brats23(root: Path) -> Dataset:
    """Open BraTS'23: four sequences, and the regions WT, TC and ET of the labels NCR 1, ED 2 and ET 3.

    The time points of a subject (-000, -001) are one group. Validation cases have no masks.
    """
    scans: dict[str, Scan] = {}
    known = []
    for match, path in find_named(root, _FILE):
        known.append(path)
        name = match["case"]
        scans.setdefault(name, Scan(name, match["subject"], _part(root, path))).files[match["sequence"]].append(path)
    cases, problems = complete_cases(scans.values(), _SEQUENCES, _MASK, unmasked=(_UNMASKED,))
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}")
    found = {
        "training": {case.name for case in cases if case.label is not None},
        _UNMASKED: {case.name for case in cases if scans[case.name].part == _UNMASKED},
    }
    return Dataset(
        root=root,
        layout="brats23",
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        channel_names=_SEQUENCES,
        label_names={0: "background", 1: "NCR", 2: "ED", 3: "ET"},
        regions=_REGIONS,
        splits_file=find_splits(root),
        problems=(
            *problems,
            *check_counts(root, CARDS["brats23"], found),
            *find_left_out(root, known, severity="warning", because="whose names are not those of BraTS'23"),
        ),
    )


def _part(root: Path, path: Path) -> str:
    """Return the part of the dataset that a file is in, by the name of the folder of its cases."""
    folder = path.resolve().parent.parent if path.parent == root else path.parent.parent
    return _UNMASKED if "validation" in folder.name.lower() else folder.name
