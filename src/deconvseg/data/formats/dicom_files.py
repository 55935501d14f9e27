"""Which files are DICOM, by their names and first bytes, and which folders are a series of them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from deconvseg.data.formats.image_endings import COMPANIONS, DICOM, UNREAD

# DICOM without a preamble begins with an element of group 8 (or 2), followed by its length or two-letter type.
_BARE_DICOM = re.compile(
    rb"(\x08\x00[\x00\x01\x05\x08\x12-\x18]|\x02\x00[\x00-\x03])\x00([A-Z]{2}|[\x00-\x40]\x00\x00\x00)", re.S
)
# Files that are opened to learn whether a folder without the usual endings is a series.
_MOST_OPENED = 3


def can_read_dicom() -> bool:
    """Return whether the package that reads DICOM is installed (the extra ``dicom``)."""
    return find_spec("pydicom") is not None


def begins_as_dicom(start: bytes) -> bool:
    """Return whether a file with these first 132 bytes is DICOM, with or without its preamble."""
    return start[128:132] == b"DICM" or _BARE_DICOM.match(start) is not None


def is_dicom_name(path: Path) -> bool:
    """Return whether a file is DICOM by its name alone."""
    return path.suffix.lower() in DICOM


def is_dicom_file(path: Path) -> bool:
    """Return whether a file is DICOM: by its ending, or by its first bytes where the ending is of no other format.

    The directory of a medium (DICOMDIR) is none, nor are hidden files.
    """
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    if is_dicom_name(path):
        return True
    ending = path.suffix.lower()
    if ending in COMPANIONS or ending in UNREAD:
        return False
    try:
        state = path.stat()
    except OSError:
        return False
    return path.is_file() and _begins_as_dicom(path, state.st_size, state.st_mtime_ns)


def is_cut_short(path: Path) -> bool:
    """Return whether a file beside DICOM files may be one of them that lost its content: empty, or zeros alone.

    The preamble of 128 bytes, with which DICOM begins, is usually zero. Files with the ending of another format, and
    hidden ones, are not meant.
    """
    ending = path.suffix.lower()
    if path.name.startswith(".") or ending in COMPANIONS or ending in UNREAD or not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(132)
    return len(start) < 132 and not start.strip(b"\0")


def is_series_folder(folder: Path) -> bool:
    """Return whether a folder directly holds DICOM files: a few are opened where none has the ending of DICOM."""
    opened = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                path = Path(entry.path)
                if is_dicom_name(path) and not entry.name.startswith("."):
                    return True
                if opened < _MOST_OPENED and entry.is_file() and path.suffix.lower() not in COMPANIONS:
                    opened += 1
                    if is_dicom_file(path):
                        return True
    except OSError:
        return False
    return False


@lru_cache(maxsize=2**16)
def _begins_as_dicom(path: Path, size: int, changed: int) -> bool:
    try:
        with path.open("rb") as stream:
            return begins_as_dicom(stream.read(132))
    except OSError:
        return False
