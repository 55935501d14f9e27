"""nnU-Net raw layout: one file per channel in ``imagesTr``, masks in ``labelsTr``, and a ``dataset.json``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deconvseg.data.dataset import Case, Dataset, Problem
from deconvseg.data.file_names import case_stem
from deconvseg.data.formats.registry import image_suffixes, is_picture
from deconvseg.data.json_files import read_json_object
from deconvseg.data.layouts.dataset_json import missing_masks, numbered_names, orphans, parse_labels
from deconvseg.data.layouts.left_out import find_left_out, name_left_out
from deconvseg.data.listing import (
    by_stem,
    channel_files,
    channel_of,
    find_splits,
    list_image_files,
    named_tests,
    sibling_channel,
)
from deconvseg.errors import InputError


def is_nnunet(root: Path) -> bool:
    """Return whether a folder has ``imagesTr`` and ``labelsTr``."""
    return (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()


def open_nnunet(root: Path) -> Dataset:
    """Open an nnU-Net raw dataset: ``imagesTr/CASE_0000.ext``, one file per channel, and ``labelsTr/CASE.ext``.

    Cases of ``imagesTs`` and ``labelsTs`` are part of it if a file of splits in the folder names them as test cases.
    """
    source = root / "dataset.json"
    record = read_json_object(source) if source.is_file() else {}
    found = list_image_files(root / "imagesTr")
    files = [path for path in found if _has_ending(path, record)]
    found_masks = list_image_files(root / "labelsTr")
    masks = [path for path in found_masks if _has_ending(path, record)]
    grouped, labels_by_case = channel_files(files), by_stem(masks)
    left_out = find_left_out(root / "imagesTr", found)
    if not grouped:
        raise InputError(
            f"{root / 'imagesTr'} holds no image named CASE_0000.ext; known suffixes are {', '.join(image_suffixes())}"
            f"{name_left_out(left_out)}"
        )
    names = numbered_names(record, ("channel_names", "modality"), source)
    names = names or tuple(f"channel {number}" for number in range(1 + max(max(group) for group in grouped.values())))
    splits_file = find_splits(root)
    cases, problems = [], left_out + find_left_out(root / "labelsTr", found_masks, severity="warning")
    problems += _unnumbered(files) + _other_endings(found, files, record)
    for name, channels in grouped.items():
        images = _images(channels, names)
        cases.append(Case(name, images, labels_by_case.get(name)))
        problems += tuple(
            Problem(str(path), f"is channel {number}, but the dataset has {len(names)} channels", "error", name)
            for number, path in channels.items()
            if number >= len(images)
        )
    tests = _tests(root, record, names, named_tests(splits_file) - grouped.keys())
    declared = parse_labels(record, source)
    return Dataset(
        root=root,
        layout="nnunet",
        cases=(*cases, *tests),
        channel_names=names,
        label_names=declared.names if declared else None,
        regions=declared.regions if declared else None,
        ignore_label=declared.ignore if declared else None,
        splits_file=splits_file,
        problems=problems
        + missing_masks(tuple(cases))
        + orphans(root / "labelsTr", {labels_by_case[name] for name in grouped if name in labels_by_case}),
    )


def _images(channels: Mapping[int, Path], names: Sequence[str]) -> tuple[Path, ...]:
    """Return the files of a case: one for each of the named channels, or a single picture in colour."""
    colour = len(names) == 3 and set(channels) == {0} and is_picture(channels[0])
    example = next(iter(channels.values()))
    return tuple(sibling_channel(example, number) for number in range(1 if colour else len(names)))


def _tests(root: Path, record: Mapping[str, Any], names: Sequence[str], asked: Collection[str]) -> list[Case]:
    """Return the cases of ``imagesTs`` that are asked for, with the masks of ``labelsTs``."""
    if not asked or not (root / "imagesTs").is_dir():
        return []
    images, masks = (
        [path for path in list_image_files(root / folder) if _has_ending(path, record)]
        if (root / folder).is_dir()
        else []
        for folder in ("imagesTs", "labelsTs")
    )
    labels = by_stem(masks)
    grouped = channel_files(images)
    return [Case(name, _images(found, names), labels.get(name)) for name, found in grouped.items() if name in asked]


def _has_ending(path: Path, record: Mapping[str, Any]) -> bool:
    ending = record.get("file_ending")
    return not isinstance(ending, str) or path.name.lower().endswith(ending.lower())


def _other_endings(found: Iterable[Path], taken: Iterable[Path], record: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return problems for files with another ending that have no counterpart with the declared ending."""
    known = {case_stem(path) for path in taken}
    message = f"does not end in {record.get('file_ending')}, as dataset.json says of all files, and is left out"
    return tuple(Problem(str(path), message, "error") for path in found if case_stem(path) not in known)


def _unnumbered(files: list[Path]) -> tuple[Problem, ...]:
    return tuple(
        Problem(str(path), "does not end in a channel number (CASE_0000.ext) and is left out", "error")
        for path in files
        if channel_of(path) is None
    )
