"""Names of image files: what is one, and which case it is of."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.registry import find_format, image_suffix, is_claimed


def is_dead_link(path: Path) -> bool:
    """Whether the path is a link to something that is not there."""
    return path.is_symlink() and not path.exists()


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image: a known suffix, not hidden, no AppleDouble ``._`` file."""
    return not path.name.startswith(".") and image_suffix(path) != ""


def is_image(path: Path) -> bool:
    """Whether the path is that of an image and no other part of one: a file by its name, or a folder that is one."""
    if is_image_file(path) and not path.is_dir():
        return listed_as(path) == path
    return not path.name.startswith(".") and is_claimed(path)


def listed_as(path: Path) -> Path:
    """The file that stands for an image in listings: the one with the voxels, where ``path`` is its header."""
    known = find_format(path)
    with naming_file(path, "image"):
        return path if known is None else known.reader.listed_as(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that hold an image, what it changes with: the path itself, or it and others, or those of a folder."""
    known = find_format(path)
    with naming_file(path, "image"):
        return (path,) if known is None else known.reader.files(path)


def is_copy(path: Path) -> bool:
    """Whether the file is a preview or a copy of one of the same name in another format, should there be one."""
    known = find_format(path)
    return known is not None and known.reader.copies


def without_copies(paths: Iterable[Path]) -> list[Path]:
    """The images without those that are previews or copies of others in the same folder."""
    listed = list(paths)
    copies = {path for path in listed if is_copy(path)}
    originals = {(path.parent, case_stem(path)) for path in listed if path not in copies}
    return [path for path in listed if path not in copies or (path.parent, case_stem(path)) not in originals]


def case_stem(path: str | PathLike[str]) -> str:
    """The file's name without its image suffix, composed (NFC): ``case.01.nii.gz`` → ``case.01``.

    macOS decomposes letters with accents in names; an image and its mask from two systems still have one name.
    """
    name = Path(path).name
    return unicodedata.normalize("NFC", name[: len(name) - len(image_suffix(path))])
