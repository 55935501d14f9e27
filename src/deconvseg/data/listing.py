"""What the layouts share: image files by stem, channel files by case, the channels of single files."""

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
from deconvseg.errors import InputError

_CHANNEL_FILE = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")


def list_image_files(folder: Path) -> list[Path]:
    """The images of a folder, not of its subfolders, sorted: files, and folders that are one image.

    Hidden and ``._`` files are left out, and so are previews and copies of others, and the headers of pairs. Links to
    files that are gone, pipes and devices are among them: reading says what they are.
    """
    return without_copies(sorted(path for path in folder.iterdir() if is_image(path)))


def by_stem(files: Iterable[Path]) -> dict[str, Path]:
    """Files by their name without the image suffix; `InputError` where two files share it."""
    found: dict[str, Path] = {}
    for path in files:
        stem = case_stem(path)
        if stem in found:
            raise InputError(f"{found[stem]} and {path} have the same case name {stem!r}; remove or rename one")
        found[stem] = path
    return found


def channel_of(path: Path) -> tuple[str, int] | None:
    """The case and the channel number of nnU-Net's ``CASE_0000.ext``, or None for another name."""
    match = _CHANNEL_FILE.fullmatch(case_stem(path))
    return (match["case"], int(match["channel"])) if match else None


def channel_files(files: Iterable[Path]) -> dict[str, dict[int, Path]]:
    """Channel files by case and channel number; files with another name are left out."""
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
    """The file that holds another channel of the case of ``path``, which is named as a channel itself."""
    ending = ending_of(path)
    return path.with_name(f"{path.name[: len(path.name) - len(ending) - 4]}{channel:04d}{ending}")


def ending_of(path: Path) -> str:
    """The image suffix as it is written in the name."""
    return path.name[len(path.name) - len(image_suffix(path)) :]


def locate(folder: Path, text: str) -> Path:
    """The file that a list names relative to ``folder``, also where it writes backslashes, or letters decomposed.

    Raises `InputError` for a text that cannot be a path.
    """
    if "\0" in text:
        raise InputError(f"{text!r} is no file name; correct the list in {folder}")
    slashes = text.replace("\\", "/")
    spellings = (text, slashes, normalize("NFC", slashes), normalize("NFD", slashes))
    return next((folder / one for one in spellings if os.path.lexists(folder / one)), folder / slashes)


def is_there(path: Path) -> bool:
    """Whether a file or folder is there; a name that the system cannot have is not."""
    try:
        return path.exists()
    except OSError:
        return False


def find_splits(root: Path) -> Path | None:
    """A splits file in a dataset's folder, if it has one."""
    candidates = (root / "splits.json", root / "splits_final.json")
    return next((path for path in candidates if path.is_file()), None)


def guess_channels(images: Sequence[Path]) -> tuple[str, ...]:
    """Channel names for single-file images: colour where any is; a file that won't open is passed over."""
    for path in images:
        try:
            if is_picture(path) and read_header(path).channels == 3:
                return RGB
        except InputError:
            continue  # the check of the dataset names it, with the reason
    return ("grey",) if is_picture(images[0]) else ("image",)
