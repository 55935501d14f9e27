"""Names of image files: which files are images, and the case names that follow from them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from deconvseg.data.formats.decoding import naming_file
from deconvseg.data.formats.registry import find_format, image_suffix, is_claimed, is_recognised


def is_dead_link(path: Path) -> bool:
    """Return whether the path is a link whose target does not exist."""
    return path.is_symlink() and not path.exists()


def is_image_file(path: Path) -> bool:
    """Return whether this is the name of an image: it has a known suffix and is not hidden (nor a ``._`` file)."""
    return not path.name.startswith(".") and image_suffix(path) != ""


def is_image(path: Path) -> bool:
    """Return whether the path stands for a whole image: a file by its name, or a folder that is one image."""
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_claimed(path)
    return (image_suffix(path) != "" or is_recognised(path)) and listed_as(path) == path


def listed_as(path: Path) -> Path:
    """Return the file that represents an image in listings: the data file if ``path`` is its header."""
    known = find_format(path)
    with naming_file(path, "image"):
        return path if known is None else known.reader.listed_as(path)


def files_of(path: Path) -> tuple[Path, ...]:
    """Return all files whose content determines an image: the path itself, with further files, or those of a folder."""
    known = find_format(path)
    with naming_file(path, "image"):
        return (path,) if known is None else known.reader.files(path)


def is_copy(path: Path) -> bool:
    """Return whether the file counts as a preview or copy of a file with the same name in another format."""
    known = find_format(path)
    return known is not None and known.reader.copies


def without_copies(paths: Iterable[Path]) -> list[Path]:
    """Return the images without previews and copies of others in the same folder."""
    listed = list(paths)
    copies = {path for path in listed if is_copy(path)}
    originals = {(path.parent, case_stem(path)) for path in listed if path not in copies}
    return [path for path in listed if path not in copies or (path.parent, case_stem(path)) not in originals]


def case_stem(path: str | PathLike[str]) -> str:
    """Return the file name without its image suffix, in Unicode NFC: ``case.01.nii.gz`` → ``case.01``.

    macOS decomposes accented letters in names; with NFC an image and its mask from two systems have the same name.
    """
    path = path if isinstance(path, Path) else Path(path)
    name = path.name
    return unicodedata.normalize("NFC", name[: len(name) - len(image_suffix(path))])
