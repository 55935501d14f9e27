"""From a path to a dataset: nnU-Net raw, Medical Segmentation Decathlon, BIDS, folders or a CSV of pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

from deconvseg.data.case_names import describe_unportable_names
from deconvseg.data.dataset import Case, Dataset, Problem, list_names
from deconvseg.data.formats.registry import image_suffixes
from deconvseg.data.json_files import read_json_object
from deconvseg.data.layouts.bids import is_bids, open_bids
from deconvseg.data.layouts.csv_layout import open_csv
from deconvseg.data.layouts.json_layouts import is_decathlon, open_decathlon, open_nnunet
from deconvseg.data.layouts.left_out import find_dicom, find_left_out, name_left_out
from deconvseg.data.listing import by_stem, find_splits, guess_channels, list_image_files
from deconvseg.errors import InputError

_MASK_ENDINGS = ("", "_segmentation", "_mask", "_seg", "_label", "_gt")
_KNOWN_LAYOUTS = (
    "nnU-Net raw (imagesTr/, labelsTr/, dataset.json), Medical Segmentation Decathlon (dataset.json with "
    '"training"), BIDS (sub-01/…, derivatives/), images/ with masks/ or labels/, or a .csv file with the columns '
    "image and label"
)


def is_dataset(path: str | PathLike[str]) -> bool:
    """Whether `open_dataset` knows the layout of this file or folder; only names and a dataset.json are looked at.

    Raises `InputError` for a dataset.json that is no JSON object.
    """
    return _layout_of(_without_description(Path(path))) is not None


def open_dataset(path: str | PathLike[str], *, foreground: bool = False) -> Dataset:
    """Find the layout of a dataset and list its cases; no pixel is read.

    ``foreground`` takes every label above zero as one class. Raises `InputError` for an unknown or ambiguous
    layout, an empty folder, and files that claim the same case; masks that are missing or have no image are
    the dataset's ``problems``.
    """
    path = _without_description(Path(path))
    layout = _layout_of(path)
    if layout is not None:
        dataset = _OPENERS[layout](path, foreground=foreground)
        return replace(dataset, problems=(*dataset.problems, *_unportable_names(dataset)))
    if (dicom := find_dicom(path)) is not None:
        raise InputError(dicom)
    if not path.is_dir():
        state = "is not a dataset" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}; give a folder or a .csv file: {_KNOWN_LAYOUTS}")
    entries = list_names(sorted(entry.name for entry in path.iterdir()), limit=8) or "nothing"
    raise InputError(f"{path} holds {entries}, which is no known layout; known are: {_KNOWN_LAYOUTS}")


def _unportable_names(dataset: Dataset) -> list[Problem]:
    return [
        Problem(str(dataset.case(name).images[0]), message, "warning", name)
        for name, message in describe_unportable_names(dataset.names)
    ]


def _without_description(path: Path) -> Path:
    """The folder that a dataset.json describes, where the path is that file."""
    return path.parent if path.name == "dataset.json" and path.is_file() else path


def _layout_of(path: Path) -> str | None:
    """The layout of a dataset, or None for anything else."""
    if path.is_file():
        return "csv" if path.suffix.lower() == ".csv" else None
    description = path / "dataset.json"
    if description.is_file() and is_decathlon(read_json_object(description), path):
        return "msd"
    if (path / "imagesTr").is_dir() and (path / "labelsTr").is_dir():
        return "nnunet"
    if (path / "images").is_dir() and _mask_folders(path):
        return "folders"
    return "bids" if is_bids(path) else None


def _mask_folders(root: Path) -> list[Path]:
    return [root / name for name in ("masks", "labels") if (root / name).is_dir()]


def _open_folders(root: Path, *, foreground: bool) -> Dataset:
    mask_folder, *others = _mask_folders(root)
    if others:
        raise InputError(
            f"{root} has both masks/ and labels/; choose one in a .csv file with the columns image and label"
        )
    images = by_stem(list_image_files(root / "images"))
    masks = by_stem(list_image_files(mask_folder))
    left_out = find_left_out(root / "images", images.values())
    masks_left_out = find_left_out(mask_folder, masks.values(), severity="warning")
    if not images:
        raise InputError(
            f"{root / 'images'} holds no image file; known suffixes are {', '.join(image_suffixes())}"
            f"{name_left_out(left_out)}"
        )
    cases, used = [], set()
    problems = [*left_out, *masks_left_out]
    for stem, image in images.items():
        matching = [stem + ending for ending in _MASK_ENDINGS if stem + ending in masks]
        if len(matching) > 1:
            both = " and ".join(str(masks[name]) for name in matching)
            raise InputError(f"{image} has several masks: {both}; keep one, or give pairs in a .csv file")
        used.update(matching)
        cases.append(Case(stem, (image,), masks[matching[0]] if matching else None))
        if not matching:
            problems.append(Problem(str(image), f"has no mask in {mask_folder.name}/", "error", stem))
    if not used:
        raise InputError(
            f"no image of {root / 'images'} has a mask in {mask_folder}: {cases[0].images[0].name} expects "
            f"{cases[0].name}.ext or {cases[0].name}_mask.ext; rename the masks or give pairs in a .csv file"
            f"{name_left_out(masks_left_out)}"
        )
    problems += [
        Problem(str(path), "is a mask without an image", "warning") for name, path in masks.items() if name not in used
    ]
    return Dataset(
        root=root,
        layout="folders",
        cases=tuple(cases),
        channel_names=guess_channels([case.images[0] for case in cases]),
        guessed_channels=True,
        foreground=foreground,
        splits_file=find_splits(root),
        problems=tuple(problems),
    )


_OPENERS: Mapping[str, Callable[..., Dataset]] = {
    "csv": open_csv,
    "msd": open_decathlon,
    "nnunet": open_nnunet,
    "folders": _open_folders,
    "bids": open_bids,
}
