"""ISLES'22 as published: DWI and ADC below ``sub-strokecase0001/ses-0001/``, masks below ``derivatives/``."""

from __future__ import annotations

import re
from pathlib import Path

from deconvseg.catalog import CARDS
from deconvseg.data.dataset import Dataset, Problem
from deconvseg.data.layouts.left_out import find_left_out
from deconvseg.data.layouts.published import Scan, check_counts, complete_cases, find_named, has_files
from deconvseg.data.listing import find_splits
from deconvseg.errors import InputError
from deconvseg.text import number_of

_FILE = re.compile(r"(?P<case>sub-strokecase\d+_ses-\d+)_(?P<sequence>dwi|adc|flair|msk)", re.IGNORECASE)
_IMAGES = tuple(f"sub-strokecase*_{sequence}.nii*" for sequence in ("dwi", "adc"))
# The files of a case, of a subject, and of the dataset; ``rawdata`` is that of an earlier release.
_PLACES = ("", "dwi/", "ses-*/dwi/", "sub-strokecase*/ses-*/dwi/", "sub-strokecase*/ses-*/")
_SEQUENCES, _MASK = ("dwi", "adc"), "msk"


def is_isles22(root: Path) -> bool:
    """Return whether a folder, or one in it, has the scans of ISLES'22, of one subject, or of one case."""
    patterns = [f"{place}{name}" for place in _PLACES for name in _IMAGES]
    nested = [f"*/{place}{name}" for place in _PLACES[-2:] for name in _IMAGES]
    return has_files(root, patterns, nested)


def open_isles22(root: Path) -> Dataset:
    """Open ISLES'22 with the channels DWI and ADC; FLAIR, which has another grid, is left out, as in the paper."""
    scans: dict[str, Scan] = {}
    known, flair = [], []
    for match, path in find_named(root, _FILE):
        known.append(path)
        sequence = match["sequence"].lower()
        if sequence == "flair":
            flair.append(path)
        else:
            scans.setdefault(match["case"], Scan(match["case"])).files[sequence].append(path)
    cases, problems = complete_cases(scans.values(), _SEQUENCES, _MASK)
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}")
    card = CARDS["isles22"]
    names = [f"sub-strokecase{number:04d}_ses-0001" for number in range(1, card.counts["training"] + 1)]
    labelled = {case.name for case in cases if case.label is not None}
    if flair:
        message = f"has {number_of(len(flair), 'FLAIR scan')} on other grids, left out: the channels are DWI and ADC"
        problems.append(Problem(str(root), message, "warning"))
    return Dataset(
        root=root,
        layout="isles22",
        cases=tuple(sorted(cases, key=lambda case: case.name)),
        channel_names=("DWI", "ADC"),
        label_names={0: "background", 1: "lesion"},
        splits_file=find_splits(root),
        problems=(
            *problems,
            *check_counts(root, card, {"training": labelled}, training=names),
            *find_left_out(root, known, severity="warning", because="whose names are not those of ISLES'22"),
        ),
    )
