"""Checks of case names, which become file names: names that are impossible here or on other systems."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from deconvseg.errors import InputError

# Most bytes of a file name on the usual file systems.
_LONGEST_FILE_NAME = 255
# The longest suffix of a mask.
_MASK_ENDING = ".nii.gz"
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_UNWANTED = re.compile(r'[<>:"|?*]|[ .]$')


def check_case_name(name: str, images: Sequence[Path]) -> None:
    """Raise an `InputError` for a case name whose mask could not be written or would be hidden."""
    where = images[0] if images else "the dataset"
    if not name or name in (".", "..") or any(mark in name for mark in "/\\\0"):
        raise InputError(f"{where}: the case name {name!r} cannot be a file name; rename the case")
    if name.startswith("."):
        raise InputError(f"{where}: the case name {name!r} begins with a dot, which hides its mask; rename the case")
    length, most = len(name.encode(errors="surrogatepass")), _LONGEST_FILE_NAME - len(_MASK_ENDING)
    # If an image with that name exists, its file system allows the length, and the suffix of the mask is not longer.
    if length > most and not any(image.name.startswith(name) for image in images):
        raise InputError(
            f"{where}: the case name {name[:20]}… has {length} bytes, but a mask's name may have {most}; shorten it"
        )


def describe_unportable_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (case name, message) for names that are invalid, or the same as another name, on Windows or macOS."""
    found, alike = [], defaultdict(list)
    for name in names:
        alike[unicodedata.normalize("NFC", name).casefold()].append(name)
        if _RESERVED.fullmatch(name) or _UNWANTED.search(name):
            found.append((name, f"is of the case {name!r}, a name that Windows does not take"))
    for first, *others in alike.values():
        listed = " and ".join(map(repr, others))
        if others:
            found.append(
                (first, f"is of the case {first!r}; its mask and that of {listed} are one file on Windows and macOS")
            )
    return found
