"""Shared code of layouts: image files by stem, channel files by case, the channels of single files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from unicodedata import normalize

from deconvseg.data.colours import RGB
from deconvseg.data.file_names import case_stem, is_image, without_copies
from deconvseg.data.formats.registry import image_suffix, is_picture
from deconvseg.data.headers import read_header
from deconvseg.data.json_files import read_json
from deconvseg.errors import InputError

_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def list_image_files(folder: Path) -> list[Path]:
    """Return the images of a folder without its subfolders, sorted: files, and folders that are one image.

    Hidden and ``._`` files, previews and copies of others, and the headers of pairs are excluded. Dead links, pipes
    and devices are included: reading them raises an error that describes them.
    """
    return without_copies(sorted(path for path in folder.iterdir() if is_image(path)))


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Return files by name without the image suffix; `InputError` if two files share it."""
    found: dict[str, Path] = {}
    for path in files:
        stem = case_stem(path)
        if stem in found:
            raise InputError(f"{found[stem]} and {path} have the same case name {stem!r}; remove or rename one")
        found[stem] = path
    return found


def channel_of(path: Path) -> tuple[str, int] | None:
    """Return the case and channel number of an nnU-Net file name ``CASE_0000.ext``, or None for another name."""
    match = _CHANNEL_FILE.fullmatch(case_stem(path))
    return (match["case"], int(match["channel"])) if match else None


def channel_files(files: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Return channel files by case and channel number, without files that have another name."""
    grouped: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in files:
        found = channel_of(path)
        if found is None:
            continue
        case, channel = found
        if channel in grouped[case]:
            raise InputError(f"{grouped[case][channel]} and {path} are the same channel; remove or rename one")
        grouped[case][channel] = path
    return dict(grouped)


def sibling_channel(path: Path, channel: int) -> Path:
    """Return the path of another channel of the same case; ``path`` must be named as a channel."""
    ending = ending_of(path)
    return path.with_name(f"{path.name[: len(path.name) - len(ending) - 4]}{channel:04d}{ending}")


def ending_of(path: Path) -> str:
    """Return the image suffix as written in the name."""
    return path.name[len(path.name) - len(image_suffix(path)) :]


def locate(folder: Path, text: str) -> Path:
    """Return the file that a list names relative to ``folder``, also with backslashes or decomposed (NFD) letters.

    Raises `InputError` for a text that cannot be a path.
    """
    if "\0" in text:
        raise InputError(f"{text!r} is not a file name; correct the list in {folder}")
    slashes = text.replace("\\", "/")
    spellings = (text, slashes, normalize("NFC", slashes), normalize("NFD", slashes))
    return next((folder / one for one in spellings if os.path.lexists(folder / one)), folder / slashes)


def is_there(path: Path) -> bool:
    """Return whether a file or folder exists; False for names that the system does not allow."""
    try:
        return path.exists()
    except OSError:
        return False


def find_splits(root: Path) -> Path | None:
    """Return the splits file in a dataset's folder, or None."""
    candidates = (root / "splits.json", root / "splits_final.json")
    return next((path for path in candidates if path.is_file()), None)


def guess_channels(images: Sequence[Path]) -> tuple[str, ...]:
    """Return channel names for single-file images: RGB if any image is in colour; unreadable files are skipped."""
    for path in images:
        try:
            if is_picture(path) and read_header(path).channels == 3:
                return RGB
        except InputError:
            continue  # `check_dataset` reports the file and the reason
    return ("grey",) if is_picture(images[0]) else ("image",)


def named_tests(splits: Path | None) -> frozenset[str]:
    """Return the test cases that a file of splits names; none for a file that cannot be read (its use reports why)."""
    if splits is None:
        return frozenset()
    try:
        record = read_json(splits)
    except InputError:
        return frozenset()
    folds = record if isinstance(record, list) else [record]
    listed = (fold.get("test") for fold in folds if isinstance(fold, dict))
    return frozenset(
        normalize("NFC", name) for names in listed if isinstance(names, list) for name in names if isinstance(name, str)
    )
