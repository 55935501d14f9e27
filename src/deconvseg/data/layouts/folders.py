"""Layout of an image folder and a mask folder, paired by file name."""

from __future__ import annotations

from pathlib import Path

from deconvseg.data.dataset import Case, Dataset, Problem
from deconvseg.data.formats.registry import image_suffixes
from deconvseg.data.layouts.left_out import find_left_out, name_left_out
from deconvseg.data.listing import by_stem, find_splits, guess_channels, list_image_files
from deconvseg.errors import InputError

_MASK_ENDINGS = ("", "_segmentation", "_mask", "_seg", "_label", "_gt")


def is_folders(root: Path) -> bool:
    """Return whether a folder has ``images`` and ``masks`` or ``labels``."""
    return (root / "images").is_dir() and bool(_mask_folders(root))


def _mask_folders(root: Path) -> list[Path]:
    return [root / name for name in ("masks", "labels") if (root / name).is_dir()]


def open_folders(root: Path) -> Dataset:
    """Open a dataset of ``images`` and ``masks`` or ``labels``, paired by name (optionally with ``_mask``)."""
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
        splits_file=find_splits(root),
        problems=tuple(problems),
    )
