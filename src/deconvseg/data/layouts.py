"""From a path to a dataset: nnU-Net raw, Medical Segmentation Decathlon, folders or a CSV of pairs."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from deconvseg.data.dataset import Case, Dataset, Problem, list_names
from deconvseg.data.json_files import read_json_object
from deconvseg.data.json_layouts import is_decathlon, open_decathlon, open_nnunet
from deconvseg.data.listing import (
    by_stem,
    channel_files,
    channel_of,
    find_splits,
    guess_channels,
    list_image_files,
    sibling_channel,
)
from deconvseg.data.raster import RASTER_SUFFIXES
from deconvseg.data.reading import IMAGE_SUFFIXES, case_stem, image_suffix, is_image_file
from deconvseg.errors import InputError

_MASK_ENDINGS = ("", "_segmentation", "_mask", "_seg", "_label", "_gt")
_KNOWN_LAYOUTS = (
    "nnU-Net raw (imagesTr/, labelsTr/, dataset.json), Medical Segmentation Decathlon (dataset.json with "
    '"training"), images/ with masks/ or labels/, or a .csv file with the columns image and label'
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
        return _OPENERS[layout](path, foreground=foreground)
    if not path.is_dir():
        state = "is not a dataset" if path.exists() else "does not exist"
        raise InputError(f"{path} {state}; give a folder or a .csv file: {_KNOWN_LAYOUTS}")
    entries = list_names(sorted(entry.name for entry in path.iterdir()), limit=8) or "nothing"
    raise InputError(f"{path} holds {entries}, which is no known layout; known are: {_KNOWN_LAYOUTS}")


def open_images(path: str | PathLike[str], *, channels: int | None = None) -> tuple[Case, ...]:
    """The cases to predict: one file, or every image file of a folder, ``CASE_0000.ext`` … being one case.

    ``channels`` is what the network expects; without it files that are numbered without a gap from 0000 on
    are one case. Raises `InputError` for a missing path, a folder without images, and two files of one name.
    """
    path = Path(path)
    if path.is_dir():
        files = list_image_files(path)
        if not files:
            raise InputError(f"{path} holds no image file; known suffixes are {', '.join(IMAGE_SUFFIXES)}")
        return _group_channels(files, channels)
    if not path.exists():
        raise InputError(f"{path} does not exist; give an image file or a folder of them")
    if not is_image_file(path):
        raise InputError(f"{path} is not an image file; known suffixes are {', '.join(IMAGE_SUFFIXES)}")
    numbered = channel_of(path)
    if numbered is not None and numbered[1] == 0 and channels is not None and channels > 1:
        others = (sibling_channel(path, numbered[0], number) for number in range(1, channels))
        return _group_channels([path, *(other for other in others if other.exists())], channels)
    return (Case(case_stem(path), (path,), None),)


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
    return "folders" if (path / "images").is_dir() and _mask_folders(path) else None


def _mask_folders(root: Path) -> list[Path]:
    return [root / name for name in ("masks", "labels") if (root / name).is_dir()]


def _group_channels(files: list[Path], channels: int | None) -> tuple[Case, ...]:
    cases = [Case(stem, (path,), None) for stem, path in by_stem(files).items() if channel_of(path) is None]
    for name, group in channel_files(files).items():
        expected = channels or len(group)
        complete = set(group) == set(range(expected))
        colour = image_suffix(next(iter(group.values()))) in RASTER_SUFFIXES
        if complete or (expected > 1 and not colour):
            example = next(iter(group.values()))
            images = tuple(sibling_channel(example, name, number) for number in range(expected))
            cases.append(Case(name, images, None))
        else:
            cases += [Case(case_stem(path), (path,), None) for path in group.values()]
    twice = sorted(name for name, times in Counter(case.name for case in cases).items() if times > 1)
    if twice:
        raise InputError(f"several inputs have the case name {list_names(twice)}; rename them")
    return tuple(sorted(cases, key=lambda case: case.name))


def _open_folders(root: Path, *, foreground: bool) -> Dataset:
    mask_folder, *others = _mask_folders(root)
    if others:
        raise InputError(
            f"{root} has both masks/ and labels/; choose one in a .csv file with the columns image and label"
        )
    images = by_stem(list_image_files(root / "images"))
    masks = by_stem(list_image_files(mask_folder))
    if not images:
        raise InputError(f"{root / 'images'} holds no image file; known suffixes are {', '.join(IMAGE_SUFFIXES)}")
    cases, problems, used = [], [], set()
    for stem, image in images.items():
        matching = [stem + ending for ending in _MASK_ENDINGS if stem + ending in masks]
        if len(matching) > 1:
            both = " and ".join(str(masks[name]) for name in matching)
            raise InputError(f"{image} has several masks: {both}; keep one, or give pairs in a .csv file")
        used.update(matching)
        cases.append(Case(stem, (image,), masks[matching[0]] if matching else None))
        if not matching:
            problems.append(Problem(str(image), f"has no mask in {mask_folder.name}/", "error"))
    if not used:
        raise InputError(
            f"no image of {root / 'images'} has a mask in {mask_folder}: {cases[0].images[0].name} expects "
            f"{cases[0].name}.ext or {cases[0].name}_mask.ext; rename the masks or give pairs in a .csv file"
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


def _open_csv(path: Path, *, foreground: bool) -> Dataset:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader if any(row.values())]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable CSV file ({error}); save it as UTF-8 with commas") from error
    numbered = sorted((name for name in columns if re.fullmatch(r"image_\d+", name)), key=lambda name: int(name[6:]))
    image_columns = numbered or [name for name in columns if name == "image"]
    if not image_columns or "label" not in columns:
        raise InputError(
            f"{path} has the columns {', '.join(columns) or 'none'}, but needs image (or image_0, image_1, …) and label"
        )
    if not rows:
        raise InputError(f"{path} has no rows; add one per case")
    cases = [_csv_case(path, number, row, image_columns) for number, row in rows]
    twice = sorted(name for name, times in Counter(case.name for case in cases).items() if times > 1)
    if twice:
        raise InputError(
            f"{path} names the case {list_names(twice)} more than once; add a column case with unique names"
        )
    single = len(image_columns) == 1
    return Dataset(
        root=path.parent,
        layout="csv",
        cases=tuple(cases),
        channel_names=guess_channels([case.images[0] for case in cases]) if single else tuple(image_columns),
        guessed_channels=single,
        foreground=foreground,
        splits_file=find_splits(path.parent),
    )


def _csv_case(path: Path, number: int, row: Mapping[str, str | None], image_columns: list[str]) -> Case:
    cells = [(row[name] or "").strip() for name in image_columns]
    if not all(cells):
        raise InputError(f"{path}, line {number}: {image_columns[cells.index('')]} is empty; every case needs it")
    images = tuple(path.parent / cell for cell in cells)
    label = (row["label"] or "").strip()
    numbered = channel_of(images[0])
    default = numbered[0] if numbered and len(images) > 1 else case_stem(images[0])
    return Case((row.get("case") or "").strip() or default, images, path.parent / label if label else None)


_OPENERS: Mapping[str, Callable[..., Dataset]] = {
    "csv": _open_csv,
    "msd": open_decathlon,
    "nnunet": open_nnunet,
    "folders": _open_folders,
}
