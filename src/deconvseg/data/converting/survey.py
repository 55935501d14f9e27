"""A look at every case before anything is written: the kind of its files, and the values of undeclared labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvseg.data.dataset import Case, Dataset
from deconvseg.data.formats.registry import is_picture
from deconvseg.data.headers import read_header
from deconvseg.errors import InputError


@dataclass(frozen=True)
class Survey:
    """The number of axes of a case, whether it is of 8-bit or other pictures, and the values of its mask if asked."""

    case: str
    dims: int = 0
    pictures: bool = False
    eight_bits: bool = False
    values: tuple[int, ...] | None = None
    problem: str = ""


def survey_case(dataset: Dataset, case: Case) -> Survey:
    """Read the headers of a case's images, and its mask if the dataset does not declare its labels."""
    try:
        headers = [read_header(path) for path in case.images]
        values = None
        if dataset.label_names is None and not dataset.foreground and case.label is not None:
            label_map = dataset.load_label(case)
            values = () if label_map is None else tuple(np.unique(label_map.pixels).tolist())
    except InputError as error:
        return Survey(case.name, problem=str(error))
    return Survey(
        case=case.name,
        dims=len(headers[0].shape),
        pictures=all(map(is_picture, case.images)),
        eight_bits=all(header.itemsize == 1 for header in headers),
        values=values,
    )


def choose_ending(surveys: Sequence[Survey], dataset: Dataset) -> tuple[int, str]:
    """Return the number of axes of all cases, and the ending of all files; `InputError` for 2D and 3D cases."""
    first = surveys[0]
    other = next((survey for survey in surveys if survey.dims != first.dims), None)
    if other is not None:
        raise InputError(
            f"{dataset.root}: {first.case} is {first.dims}D and {other.case} {other.dims}D, and a dataset holds one "
            "kind; convert each by itself, without the other cases (`exclude`)"
        )
    if first.dims == 3:
        return 3, ".nii.gz"
    if not all(survey.pictures for survey in surveys):
        return 2, ".mha"
    return 2, ".png" if all(survey.eight_bits for survey in surveys) else ".tif"
