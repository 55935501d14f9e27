"""Masks as a BIDS derivative: their paths and the files that describe them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from deconvseg._version import __version__
from deconvseg.data.bids_names import (
    DESCRIPTION,
    GENERATOR,
    SOURCE_ENTITIES,
    BidsFile,
    is_generated_here,
    join_entities,
    parse_entities,
    parse_name,
)
from deconvseg.data.dataset import Case
from deconvseg.data.writing import mask_suffix
from deconvseg.errors import InputError
from deconvseg.system import write_text

_BIDS_VERSION = "1.9.0"
_MADE_HERE = ("desc", "label")


def bids_mask_paths(
    cases: Sequence[Case], output: str | PathLike[str], label_values: Sequence[int] = ()
) -> dict[str, Path]:
    """Return mask paths by case: ``output/sub-01/ses-2/anat/sub-01_ses-2_desc-deconvseg_dseg.nii.gz``.

    A mask has the entities of the case name, or those that all its images share, and their space and folder. Raises
    `InputError` for an image without a BIDS name, and for cases whose masks would have the same path.
    """
    paths: dict[str, Path] = {}
    owners: dict[Path, Case] = {}
    for case in cases:
        path = _mask_path(case, Path(output), label_values)
        other = owners.setdefault(path, case)
        if other is not case:
            raise InputError(
                f"{case.images[0]} and {other.images[0]} would have the same mask {path}; predict them one after the "
                "other, into two folders"
            )
        paths[case.name] = path
    return paths


def write_bids_description(
    output: str | PathLike[str], label_names: Mapping[int, str], colours: Mapping[str, str] | None = None
) -> None:
    """Write ``dataset_description.json`` of a derivative, and ``desc-deconvseg_dseg.tsv`` with the labels of its masks.

    With ``colours`` (``#rrggbb`` by name) the table has a column for them. Raises `InputError` if ``output`` already
    contains another dataset.
    """
    output = Path(output)
    description = output / DESCRIPTION
    if description.exists() and not is_generated_here(output):
        raise InputError(
            f"{description} describes another dataset; choose another output folder, as "
            f"{output / 'derivatives' / GENERATOR}"
        )
    record = {
        "Name": f"Segmentations by {GENERATOR}",
        "BIDSVersion": _BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": GENERATOR, "Version": __version__}],
    }
    write_text(description, json.dumps(record, indent=2) + "\n")
    rows = [["index", "name"], *([str(value), " ".join(name.split())] for value, name in sorted(label_names.items()))]
    if colours:
        named = [name for _, name in sorted(label_names.items())]
        rows = [
            [*row, text] for row, text in zip(rows, ["color", *(colours.get(n, "n/a") for n in named)], strict=True)
        ]
    write_text(output / f"desc-{GENERATOR}_dseg.tsv", "".join("\t".join(row) + "\n" for row in rows))


def _mask_path(case: Case, output: Path, label_values: Sequence[int]) -> Path:
    first, *others = [_parse(path) for path in case.images]
    shared = {
        key: value
        for key, value in first.entities.items()
        if key not in _MADE_HERE and all(other.entities.get(key) == value for other in others)
    }
    # Cases of a BIDS dataset have the name of their true mask; the prediction gets the same, so that both are compared.
    named = parse_entities(case.name)
    if named is not None:
        shared = named | {key: value for key, value in shared.items() if key not in SOURCE_ENTITIES}
    folders = [join_entities({key: shared[key]}) for key in ("sub", "ses") if key in shared]
    if all(other.datatype == first.datatype for other in others):
        folders.append(first.datatype)
    name = f"{join_entities({**shared, 'desc': GENERATOR})}_dseg{mask_suffix(case.images[0], label_values)}"
    return output.joinpath(*folders, name)


def _parse(path: Path) -> BidsFile:
    file = parse_name(path)
    if file is None:
        raise InputError(f"{path} has no BIDS name (sub-01_T1w.nii.gz); rename it, or do without BIDS")
    return file
