"""Cases to predict from a file or a flat folder of images: grouping of channels, and files that are left out."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from deconvseg.data.dataset import Case, Problem, list_names
from deconvseg.data.file_names import case_stem, is_dead_link, is_image, listed_as
from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.registry import Format, find_format, image_suffixes, is_claimed, is_picture
from deconvseg.data.formats.series_choice import SeriesChoice
from deconvseg.data.headers import read_header
from deconvseg.data.layouts.left_out import find_dicom, find_left_out, name_left_out, walk_folders
from deconvseg.data.layouts.named_channels import join_named_channels
from deconvseg.data.listing import by_stem, channel_files, channel_of, ending_of, list_image_files, sibling_channel
from deconvseg.errors import InputError
from deconvseg.system import does_not_exist
from deconvseg.text import number_of

_MASK_WORD = r"(?:masks?|d?seg|segmentations?|labels?|gt|ground[ _-]?truth|annotations?|manual)"
_MASK = re.compile(rf"(?P<image>.+?)[ _.-]+{_MASK_WORD}[_-]?\d*", re.IGNORECASE)
_MASK_FIRST = re.compile(rf"{_MASK_WORD}[ _.-]+(?P<image>.+)", re.IGNORECASE)
# Files among which the first image of a folder is looked for, to see whether it is sorted out by contents.
_MOST_SEARCHED = 2000
# Names of image folders in nnU-Net's layout, in which every file name has a channel number.
_NNUNET_FOLDER = re.compile(r"images[A-Z][a-z]*")


def open_images(
    path: str | PathLike[str],
    *,
    channels: int | None = None,
    channel_names: Sequence[str] = (),
    choice: SeriesChoice | None = None,
) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """Return the cases of one file, or of all image files of a folder; ``CASE_0000.ext`` … (nnU-Net) is one case.

    ``channels`` is the number that the network expects. Without it, files numbered from 0000 without a gap are one
    case if each has one channel on the same grid. Files named after the ``channel_names`` of the network
    (``CASE-t1c.nii.gz``, ``CASE-t2w.nii.gz``) are one case, in the order of these names. A single file gets the same
    case name as within its folder, with the channels beside it: the number 0000 is dropped if several files have it and
    none has another number, or if the folder has an nnU-Net name (imagesTs). Files with the same case name, masks next
    to their images (``X_mask``, ``seg_X``, …) and unsupported files are left out and reported as problems. A folder of
    DICOM studies is sorted out by series, of which ``choice`` picks those of each case. Raises `InputError` for a
    missing path, a folder without images, and if no case remains.

    Example:
        >>> from deconvseg.data import open_images
        >>> cases, problems = open_images("SCANS")
        >>> len(cases), cases[0].name, problems
        (8, 'disc0', ())

    """
    path = listed_as(Path(path))
    choice = choice or SeriesChoice(count=channels)
    if path.is_dir() and (known := sorted_by(path)) is not None:
        with naming_file(path, "image"):
            return known.reader.open_folder(path, choice)
    if choice.series:
        raise InputError(f"{path}: `series` chooses among the DICOM series of a folder, and it holds none")
    if path.is_dir() and not is_claimed(path):
        found = list_image_files(path)
        left_out = find_left_out(path, found, other="warning")
        if not found:
            raise InputError(
                f"{path} holds no image file; known suffixes are {', '.join(image_suffixes())}{name_left_out(left_out)}"
            )
        masks = find_masks_beside(found)
        files = [file for file in found if file not in masks]
        named = join_named_channels(files, channel_names, _may_be_channels)
        cases, problems = _separate(named.rest, channels, named.cases, named.problems)
        doubtful = _doubtful(path, named.rest, channels)
        return cases, (*problems, *_describe_masks(path, masks), *doubtful, *left_out)
    if not path.exists() and not is_dead_link(path):
        raise InputError(f"{does_not_exist(path)}; give an image file or a folder of them")
    if not is_image(path):
        raise InputError(
            find_dicom(path) or f"{path} is not an image file; known suffixes are {', '.join(image_suffixes())}"
        )
    alike = [file for file in list_image_files(path.parent) if ending_of(file) == ending_of(path)]
    named = join_named_channels(alike, channel_names, _may_be_channels)
    grouped = [*named.cases, *(_group_channels(alike, channels) if channel_of(path) else [])]
    # Compare by name: the given path is kept as written, including links.
    case = next((case for case in grouped if path.name in [image.name for image in case.images]), None)
    return (case or Case(case_stem(path), (path,), None),), ()


def sorted_by(folder: Path) -> Format | None:
    """Return the format whose reader sorts out the files of a folder by their contents; None for a folder of images."""
    if is_images_folder(folder):
        return None
    looked_at, found = 0, None
    for _, files in walk_folders(folder, whole=False):
        for path in files:
            known = None if path.name.startswith(".") else find_format(path)
            if known is not None and known.recognises is None:
                return None
            found = found or known
        looked_at += len(files)
        if found is not None or looked_at > _MOST_SEARCHED:
            break
    return found


def is_images_folder(folder: Path) -> bool:
    """Return whether a folder has the name of an nnU-Net image folder (imagesTr, imagesTs)."""
    return _NNUNET_FOLDER.fullmatch(folder.absolute().name) is not None


def find_masks_beside(files: Sequence[Path]) -> set[Path]:
    """Return the files named as masks of others: ``X_mask`` or ``mask_X`` next to ``X``, ``X_seg`` next to ``X_t1``."""
    stems = {path: case_stem(path) for path in files}
    matches = {path: _MASK.fullmatch(stem) or _MASK_FIRST.fullmatch(stem) for path, stem in stems.items()}
    images = sorted(case_stem(path) for path, match in matches.items() if match is None)

    def has_image(name: str) -> bool:
        places = (bisect_left(images, start) for start in (name, f"{name}_"))
        exact, longer = (images[place] if place < len(images) else "" for place in places)
        return exact == name or longer.startswith(f"{name}_")

    return {path for path, match in matches.items() if match and has_image(match["image"])}


def _describe_masks(folder: Path, masks: set[Path]) -> list[Problem]:
    if not masks:
        return []
    names = list_names((path.name for path in sorted(masks)), limit=3)
    message = (
        f"holds {len(masks)} files named as masks of others ({names}), left out; move the images to a folder apart"
    )
    return [Problem(str(folder), message, "warning")]


def _doubtful(folder: Path, files: Sequence[Path], channels: int | None) -> list[Problem]:
    """Check files numbered as several channels for a network with one channel: an error if there are several cases."""
    volumes = [path for path in files if not is_picture(path)]
    groups = _channels_by_ending(volumes)
    numbers = {tuple(sorted(group)) for group in groups.values()}
    if channels != 1 or len(numbers) != 1 or (count := len(next(iter(numbers)))) < 2:
        return []
    if next(iter(numbers)) != tuple(range(count)) or not all(_may_be_channels(group) for group in groups.values()):
        return []
    names = list_names(path.name for path in next(iter(groups.values())).values())
    if len(groups) > 1:
        raise InputError(
            f"{folder} holds {count} channels of each case by their names ({names}), but the network takes one; give a "
            "folder with that channel alone"
        )
    message = f"{names} are taken for {number_of(count, 'case')}: the network takes one channel"
    return [Problem(str(folder), message, "warning")]


def _separate(
    files: Sequence[Path], channels: int | None, joined: Sequence[Case], told: Sequence[Problem]
) -> tuple[tuple[Case, ...], tuple[Problem, ...]]:
    """Return the cases with unique names, and a problem for each name that several inputs have.

    ``joined`` are cases that are known already, and ``told`` problems.
    """
    found: dict[str, list[Case]] = defaultdict(list)
    for case in joined:
        found[case.name].append(case)
    for group in _by_ending(files).values():
        for case in _group_channels(group, channels):
            found[case.name].append(case)
    cases, problems = [], list(told)
    for name, (case, *others) in sorted(found.items()):
        if not others:
            cases.append(case)
            continue
        rivals = " and ".join(str(other.images[0]) for other in others)
        message = f"and {rivals} have the same case name {name!r} and are left out; remove or rename one"
        problems.append(Problem(str(case.images[0]), message, "error"))
    if not cases:
        raise InputError(f"{problems[0].file} {problems[0].message}")
    return tuple(cases), tuple(problems)


def _by_ending(files: Sequence[Path]) -> Mapping[str, list[Path]]:
    grouped: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        grouped[ending_of(path)].append(path)
    return grouped


def _channels_by_ending(files: Sequence[Path]) -> dict[tuple[str, str], dict[int, Path]]:
    """Return channel files by (ending, case), then by channel number."""
    return {
        (ending, case): group
        for ending, alike in _by_ending(files).items()
        for case, group in channel_files(alike).items()
    }


def _group_channels(files: Sequence[Path], channels: int | None) -> list[Case]:
    """Return the cases of files of one format: one file each, or several files numbered as channels."""
    cases = [Case(stem, (path,), None) for stem, path in by_stem(files).items() if channel_of(path) is None]
    groups = channel_files(files)
    single = not cases and all(set(group) == {0} for group in groups.values())
    numbered = single and (len(groups) > 1 or _NNUNET_FOLDER.fullmatch(files[0].parent.name) is not None)
    for name, group in groups.items():
        expected = channels or len(group)
        example = next(iter(group.values()))
        complete = set(group) == set(range(expected))
        if expected == 1:
            joined = complete and numbered
        else:
            joined = (complete or not is_picture(example)) and _may_be_channels(group)
        if joined and len(group) > expected:
            names = list_names(path.name for path in group.values())
            raise InputError(
                f"{example.parent} holds {len(group)} channels of case {name} ({names}), but the network takes "
                f"{expected}; give a folder with those alone, numbered from 0000 in the run's order"
            )
        if joined:
            cases.append(Case(name, tuple(sibling_channel(example, number) for number in range(expected)), None))
        elif numbered:
            # One file with all channels, such as a colour picture.
            cases.append(Case(name, (example,), None))
        else:
            cases += [Case(case_stem(path), (path,), None) for path in group.values()]
    return cases


def _may_be_channels(group: Mapping[int, Path]) -> bool:
    """Return whether the files have one channel each on one grid, by their headers; unreadable files are skipped."""
    shapes = set()
    for path in group.values():
        try:
            header = read_header(path)
        except InputError:
            continue  # the error is reported when the case is read
        if header.channels != 1:
            return False
        shapes.add(header.shape)
    return len(shapes) < 2
